"""A tagging or classification recipe from end to end: plan, fine-tuning, stages, report, student."""

from __future__ import annotations

from ...modeling.onnx import onnx_library
from ...trainers.stages import StagedRun, StageResult, best_stage, bound_kernel_cache
from ..student_run import arguments_of, finish, run_student, show, stage_scores
from .recipe import TaskRecipe
from .report import task_report


def run_task(work: TaskRecipe, *, dry_run: bool) -> None:
    """Fine-tune the teacher if need be, distil, judge on the test split, and write student, card and report."""
    recipe = work.recipe
    if any(stage.chunk_rows for stage in recipe.stages):
        bound_kernel_cache()
    for library in ("onnx", "onnxruntime") if recipe.evaluation.get("onnx") else ():
        onnx_library(library)  # that it isn't installed should not show after hours of training
    args = arguments_of(recipe)
    with args.main_process_first(desc="reading the task"):
        fine_tuning = work.fine_tuning()
    if args.process_index == 0:
        introduce(work)
    teacher = recipe.teacher
    if fine_tuning:
        show(fine_tuning, f"Fine-tuning of {recipe.teacher_name}")
        if not dry_run:
            teacher = str(fine_tuning.run()[-1].folder)
    run_student(
        lambda: work.staged_run(teacher),
        lambda run, results: judge(work, teacher, run, results),
        args,
        dry_run=dry_run,
    )


def introduce(work: TaskRecipe) -> None:
    """Print what was read."""
    task = work.task
    rows = ", ".join(f"{len(split):,} {name}" for name, split in task.splits.items())
    print(f"{task.kind}: {len(task.labels) or 1} labels; rows: {rows}, {len(task.transfer):,} transfer")


def judge(work: TaskRecipe, teacher: str, run: StagedRun, results: list[StageResult]) -> None:
    """Measure the best stage's student beside its teacher, and publish it."""
    best = best_stage(results)
    print("\n" + "\n".join(stage_scores(results)) + f"\n\nBest on dev: {best.name}. Measuring ...\n")
    report, entities = task_report(work, teacher, run.student, best)
    if entities:
        print(entities.table())
    finish(work.recipe, results, report)
    print(f"Predict with it: python examples/run_predict.py --model {work.recipe.output_dir} --input texts.txt\n")
