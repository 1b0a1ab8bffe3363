"""Running a recipe: its stages on one process or on several ranks, then scores, student, report and push."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState

from ..evaluation.report import Report, aligned, markdown_table, text_table, write_report
from ..trainers import DistillTrainer
from ..trainers.arguments import DistillTrainingArguments
from ..trainers.saving import is_hub_id, last_complete_checkpoint
from ..trainers.stages import StagedRun, StageResult, plan_table, publish, push_student
from .recipe import Recipe


def stage_scores(results: Sequence[StageResult]) -> list[str]:
    """Scores on development data after each stage, as the lines of a table."""
    names = list(results[-1].scores)
    head = ["stage", *(f"dev {name}" for name in names), "steps"]
    rows = [[r.name, *(f"{r.scores[name]:.4f}" for name in names), f"{r.steps:,}"] for r in results]
    return aligned([head, *rows], gap=2)


def finish(recipe: Recipe, results: Sequence[StageResult], report: Report | None, **facts: Any) -> None:
    """Write student and card, write and print the report, and push what is to be pushed.

    Args:
        recipe: says where to.
        results: of its stages.
        report: what they came to; None if that was not measured.
        facts: further fields of the card (see `CardFacts`).
    """
    name = recipe.teacher_name
    told = {"summary": report.title, "results": markdown_table(report), "measured": report.measured} if report else {}
    publish(
        results,
        recipe.output_dir,
        teachers=(name,),
        base_models=(name,) if is_hub_id(name) else (),
        **told,
        **facts,
    )
    if report:
        write_report(report, recipe.output_dir)
        print(f"\n{text_table(report)}")
    written = "Student, model card, report.json and report.png" if report else "Student and model card"
    print(f"\n{written}: {Path(recipe.output_dir)}/")
    if recipe.push_to_hub:
        print(f"Pushed: {push_student(recipe.output_dir, recipe.push_to_hub)}")


def arguments_of(recipe: Recipe) -> DistillTrainingArguments:
    """Those of the first stage. They start the process group, so they are made before anything is read."""
    first = recipe.stages[0]
    return first.trainer.arguments_class(output_dir=recipe.output_dir, **{**recipe.arguments, **first.arguments})


def show(run: StagedRun, title: str) -> None:
    """Print a plan, on the first rank."""
    if PartialState().is_main_process:
        print(f"\n{title}\n\n" + "\n".join(aligned(plan_table(run.plan), gap=2)) + "\n", flush=True)


def run_student(
    make: Callable[[], StagedRun],
    judge: Callable[[StagedRun, list[StageResult]], None],
    args: DistillTrainingArguments,
    *,
    dry_run: bool,
) -> None:
    """Show the student's stages, run them unless this is a dry run, judge what they came to, and let the ranks go.

    Args:
        make: the run.
        judge: what it and its results are handed to, on the first rank.
        args: of `arguments_of`.
        dry_run: stop after the plan.
    """
    with args.main_process_first(desc="reading text"):
        run = make()
    show(run, "Stages of the student")
    if not dry_run:
        results = run.run()
        if args.process_index == 0:
            judge(run, results)
    PartialState().wait_for_everyone()
    PartialState().destroy_process_group()


def resume(trainer: DistillTrainer) -> None:
    """Train, from the last complete checkpoint if there is one, and say so."""
    checkpoint = last_complete_checkpoint(trainer.args.output_dir)
    if checkpoint and trainer.is_world_process_zero():
        print(f"Going on from {checkpoint}. To start anew, delete {trainer.args.output_dir}.")
    trainer.train(resume_from_checkpoint=checkpoint)
