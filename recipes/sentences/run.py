"""A recipe for sentence embeddings from end to end: plan, assistant, stages, report, student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from transformers import PreTrainedModel

from ...evaluation.report import Report, Role
from ...evaluation.sentences import SentenceModel
from ...trainers.stages import StageResult, best_stage
from ..student_run import arguments_of, finish, run_student, show, stage_scores
from .flags import how_to_use
from .recipe import SentenceRecipe
from .report import side_by_side


def run_sentences(work: SentenceRecipe, *, dry_run: bool) -> None:
    """Train the assistant if there is one to be trained, distil, judge, and write student, card and report."""
    recipe, args = work.recipe, arguments_of(work.recipe)
    with args.main_process_first(desc="reading text"):
        assistant_run = work.assistant_run()
    if args.process_index == 0:
        print(f"Teacher: {recipe.teacher_name}. {work.corpus.introduction}")
    assistant, before = recipe.assistant and recipe.assistant.model, []
    if assistant_run:
        show(assistant_run, "Stages of the assistant")
        assistant = assistant_run.student
        if not dry_run:
            before = assistant_run.run()
            assistant = best_stage(before).folder
    run_student(
        lambda: work.staged_run(assistant),
        lambda run, results: judge(work, run.student, assistant, before, results),
        args,
        dry_run=dry_run,
    )


def judge(
    work: SentenceRecipe,
    untrained: PreTrainedModel,
    assistant: str | Path | None,
    before: Sequence[StageResult],
    results: Sequence[StageResult],
) -> None:
    """Measure the best stage's student beside those that it comes from, and publish it.

    Args:
        work: the recipe.
        untrained: the student before its first stage.
        assistant: the finished one, if there is one.
        before: of the assistant's stages.
        results: of the student's.
    """
    best = best_stage(results)
    if best.scores:
        print("\n" + "\n".join(stage_scores([*before, *results])) + f"\n\nBest on dev: {best.name}.")
    report = report_of(work, untrained, assistant, results) if work.corpus.has_tests else None
    finish(work.recipe, results, report, data=work.corpus.data)
    print(f"\n{how_to_use(work.recipe.output_dir)}\n")


def report_of(
    work: SentenceRecipe, untrained: PreTrainedModel, assistant: str | Path | None, results: Sequence[StageResult]
) -> Report:
    """Models side by side on text that no one was trained on; arguments as of `judge`."""
    print("\nMeasuring quality, size and speed ...", flush=True)
    best = best_stage(results)
    teacher = {work.recipe.teacher_name.rsplit("/", 1)[-1]: (Role.TEACHER, work.teacher_model)}
    if assistant is None:
        models = teacher | {"student, untrained": (Role.UNTRAINED, work.as_sentence_model(untrained))}
    else:
        models = after_each_stage(work, teacher, assistant, [each for each in results if each is not best])
    models["student"] = Role.STUDENT, work.as_sentence_model(best.folder)
    return side_by_side(
        models, work.corpus.quality, work.corpus.sample, list(best.log_history), measured=work.corpus.measured
    )


def after_each_stage(
    work: SentenceRecipe,
    teacher: Mapping[str, tuple[Role, SentenceModel]],
    assistant: str | Path,
    others: Sequence[StageResult],
) -> dict[str, tuple[Role, SentenceModel]]:
    """The assistant, with which the student is compared; its teacher; and what stages beside the best came to."""
    models = {"assistant": (Role.TEACHER, work.as_sentence_model(assistant)), **teacher}
    if not work.recipe.assistant.model:
        models["assistant, untrained"] = Role.UNTRAINED, work.as_sentence_model(work.start())
    return models | {f"after {each.name}": (Role.STUDENT, work.as_sentence_model(each.folder)) for each in others}
