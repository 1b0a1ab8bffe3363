"""Stages of a recipe on one process or on several ranks: all of them train, the first one reads, shows and judges."""

from __future__ import annotations

from collections.abc import Callable

from accelerate import PartialState
from recipe import Recipe

from retort import DistillTrainingArguments, StagedRun
from retort.evaluation.report_table import aligned
from retort.trainers import StageResult, plan_table


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
