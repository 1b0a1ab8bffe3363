"""A tagging or classification recipe from end to end: plan, fine-tuning, stages, report, student."""

from __future__ import annotations

from pathlib import Path

from task_recipe import TaskRecipe, stage_scores
from task_report import task_report
from task_students import AUTO_CLASSES

from retort import StagedRun
from retort.evaluation import markdown_table, text_table, write_report
from retort.evaluation.report_table import aligned
from retort.trainers import best_stage, plan_table, publish
from retort.trainers.card_facts import is_hub_id


def run_task(work: TaskRecipe, *, dry_run: bool) -> None:
    """Fine-tune the teacher if need be, distil, judge on the test split, and write student, card and report."""
    recipe, task = work.recipe, work.task
    rows = ", ".join(f"{len(split):,} {name}" for name, split in task.splits.items())
    print(f"{task.kind}: {len(task.labels) or 1} labels; rows: {rows}, {len(task.transfer):,} transfer")
    if run := work.fine_tuning():
        show(run, f"Fine-tuning of {recipe.teacher_name}")
    if dry_run:
        show(work.staged_run(recipe.teacher), "Stages of the student")
        return
    teacher = work.teacher()
    run = work.staged_run(teacher)
    show(run, "Stages of the student")
    results = run.run()
    best = best_stage(results)
    print("\n" + "\n".join(aligned(stage_scores(results), gap=2)) + f"\n\nBest on dev: {best.name}. Measuring ...\n")
    report = task_report(work, teacher, best)
    publish(
        results,
        recipe.output_dir,
        teachers=(recipe.teacher_name,),
        base_models=(recipe.teacher_name,) if is_hub_id(recipe.teacher_name) else (),
        summary=report.title,
        results=markdown_table(report),
        measured=report.measured,
    )
    write_report(report, recipe.output_dir)
    if task.kind == "tagging" and "test" in task.splits:
        print(work.data.entity_table(AUTO_CLASSES[task.kind].from_pretrained(best.folder)))
    folder = Path(recipe.output_dir)
    print(f"\n{text_table(report)}\n\nStudent, model card, report.json and report.png: {folder}/")
    print(f"Predict with it: python examples/run_predict.py --model {folder} --input texts.txt\n")


def show(run: StagedRun, title: str) -> None:
    """Print a plan."""
    print(f"\n{title}\n\n" + "\n".join(aligned(plan_table(run.plan), gap=2)) + "\n", flush=True)
