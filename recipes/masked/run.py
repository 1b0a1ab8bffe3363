"""A recipe for masked language models from end to end: plan, teacher, stages, report, student."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...evaluation.cost import Footprint, Speed, compare_speed, describe_machine
from ...evaluation.report import ModelRow, Report, Role, loss_history
from ...evaluation.tasks import MaskedModel
from ...trainers.stages import StageResult, best_stage
from ..student_run import arguments_of, finish, run_student, show
from .recipe import MaskedRecipe


def how_to_use(folder: str | Path, tokenizer: PreTrainedTokenizerBase) -> str:
    """The two lines of Python that use a finished student."""
    return (
        "from transformers import pipeline\n"
        f'pipeline("fill-mask", model="{folder}")("A retort is a {tokenizer.mask_token} to distil in.")'
    )


def run_masked(work: MaskedRecipe, *, dry_run: bool) -> None:
    """Train the teacher if there is none, distil, judge, and write student, card and report."""
    recipe, args = work.recipe, arguments_of(work.recipe)
    with args.main_process_first(desc="reading text"):
        teacher_run = work.teacher_run()
    if args.process_index == 0:
        rows = f"{len(work.text.train):,} texts, {len(work.tokenizer):,} of {len(work.teacher_tokenizer):,} tokens"
        print(f"Teacher: {recipe.teacher_name}. {rows}.")
    teacher = recipe.teacher
    if teacher_run:
        show(teacher_run, "Stages of the teacher")
        teacher = teacher_run.student if dry_run else best_stage(teacher_run.run()).folder
    run_student(
        lambda: work.staged_run(teacher),
        lambda run, results: judge(work, teacher, run.student, results),
        args,
        dry_run=dry_run,
    )


def judge(work: MaskedRecipe, teacher: str | Path, untrained: PreTrainedModel, results: Sequence[StageResult]) -> None:
    """Measure the student beside its teacher, and publish it."""
    report = report_of(work, teacher, untrained, best_stage(results)) if work.text.test else None
    data = {", ".join(Path(file).name for file in work.text.train_files): len(work.text.train)}
    finish(work.recipe, results, report, data=data)
    print(f"\n{how_to_use(work.recipe.output_dir, work.tokenizer)}\n")


def report_of(work: MaskedRecipe, teacher: str | Path, untrained: PreTrainedModel, best: StageResult) -> Report:
    """Teacher, untrained and trained student side by side on the test's hidden words."""
    print("\nMeasuring quality, size and speed ...", flush=True)
    theirs, ours = work.teacher_tokenizer, work.tokenizer
    models = {
        work.recipe.teacher_name.rsplit("/", 1)[-1]: (Role.TEACHER, work.as_masked_model(teacher, theirs)),
        "student, untrained": (Role.UNTRAINED, work.as_masked_model(untrained, ours)),
        "student": (Role.STUDENT, work.as_masked_model(best.folder, ours)),
    }
    speeds = compare_speed({name: model.embed for name, (_, model) in models.items()}, work.text.test["text"][:])
    rows = [row_of(work, name, role, model, speeds[name]) for name, (role, model) in models.items()]
    return Report(
        rows=tuple(rows),
        metric=next(iter(rows[0].quality)),
        losses=loss_history(list(best.log_history)),
        measured=f"Hidden words of {len(work.text.test):,} texts: what their characters are guessed with, as bits and "
        "as the geometric mean of probabilities; the same words for all models. Speed: the encoder without its head, "
        f"float32, padded batches of 32 and of 1, medians of interleaved rounds on {describe_machine()}.",
    )


def row_of(work: MaskedRecipe, name: str, role: Role, model: MaskedModel, speed: Speed) -> ModelRow:
    """One model's row of the report."""
    bits = model.bits_per_character(work.text.test)
    return ModelRow(
        name=name,
        role=role,
        quality={"probability of a hidden character": 2**-bits, "bits per hidden character": bits},
        footprint=Footprint.of(model.model),
        speed=speed,
        layers=model.model.config.num_hidden_layers,
    )
