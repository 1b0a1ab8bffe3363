"""All checks of a run, made once before weights are loaded or anything is written."""

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
from transformers import PreTrainedModel

from ...data import VECTORS, has_vectors
from ...modeling.encoding import SentenceEncoder
from ..arguments import DistillTrainingArguments
from ..objectives import Objective, PooledObjective, Projector
from ..teachers import model_of
from .objectives import check_objectives
from .rows import RowChecks
from .run import check_optimizer, check_streams, check_token_budget, check_trained


def validate(
    objectives: Sequence[Objective],
    args: DistillTrainingArguments,
    student: PreTrainedModel,
    student_encoder: SentenceEncoder | None,
    teachers: Sequence[PreTrainedModel | SentenceEncoder],
    sets: Mapping[str, Any],
    check_rows: RowChecks,
    trainer_arguments: Mapping[str, Any],
    *,
    has_teacher: bool,
    vectors: int | None,
) -> None:
    """Refuse a run that would train on wrong numbers without an error, or fail after an hour.

    Args:
        objectives: the terms of the loss.
        args: the run's arguments.
        student: the model to be trained.
        student_encoder: the student's own pooling and modules, if it has any.
        teachers: outlines of the live teachers (see `outline_teacher`).
        sets: all datasets by their names in messages.
        check_rows: the checks of their rows.
        trainer_arguments: further arguments of `transformers.Trainer`.
        has_teacher: whether there is a live teacher, a cache, or vectors.
        vectors: width of the given vectors; None if the embeddings come from a teacher or a cache.

    Raises:
        ValueError: with the given value, the expected one, and a way to fix it.
    """
    for rows in sets.values():
        check_streams(rows, args)
    _check_teacher_pooler(objectives, args, student_encoder, teachers)
    _check_prompt_name(args, teachers)
    _check_fit(objectives, args, sets)
    _check_kept(objectives, args, student_encoder)
    models = [model_of(teacher) for teacher in teachers]
    check_objectives(objectives, args, student, models, has_teacher=has_teacher, by_vectors=bool(vectors))
    _check_vectors(objectives, args, teachers, sets, by_vectors=bool(vectors))
    check_optimizer(objectives, trainer_arguments)
    if "training" in sets:
        check_trained(objectives, student, student_encoder)
    for name, rows in (sets or {"training": None}).items():
        check_rows(rows, name)
    check_token_budget(sets.get("training"), args)


def _check_teacher_pooler(
    objectives: Sequence[Objective],
    args: DistillTrainingArguments,
    student: SentenceEncoder | None,
    teachers: Sequence[PreTrainedModel | SentenceEncoder],
) -> None:
    """Refuse a teacher without a pooler, if the student's pooling has several modes and can't be its default."""
    pooled = any(objective.teacher_request().pooler for objective in objectives)
    bare = [teacher for teacher in teachers if not isinstance(teacher, SentenceEncoder)]
    if student and len(student.modules.pooling.modes) > 1 and bare and pooled and args.teacher_pooler is None:
        raise ValueError(
            f"The student pools by {student.modules.pooling}, but the pooling of the teacher, a "
            f"{type(bare[0]).__name__}, is unknown. Set teacher_pooler."
        )


def _check_prompt_name(args: DistillTrainingArguments, teachers: Sequence[PreTrainedModel | SentenceEncoder]) -> None:
    """Refuse the name of a prompt for a teacher that has no prompts."""
    only_cached = args.teacher_cache and not teachers
    without = not teachers or any(not isinstance(teacher, SentenceEncoder) for teacher in teachers)
    if args.teacher_prompt_name is not None and without and not only_cached:
        raise ValueError(
            f"teacher_prompt_name={args.teacher_prompt_name!r}, but only sentence-transformers models have prompts, "
            f"and {'this teacher is not one' if teachers else 'there is no teacher'}. Leave it out. The prompt of "
            "given vectors is chosen when they are made (`retort cache --prompt_name`)."
        )


def _check_fit(objectives: Sequence[Objective], args: DistillTrainingArguments, sets: Mapping[str, Any]) -> None:
    """Refuse to fit a projector that isn't there, or on a stream."""
    projected = any(
        isinstance(getattr(objective, "projector", None), Projector)
        for objective in objectives
        if isinstance(objective, PooledObjective)
    )
    if args.fit_projector and not projected:
        raise ValueError(
            f"fit_projector, but no projector of embeddings is trained (projector={args.projector!r}): the widths are "
            "equal, the student has a Dense module (as after a stage that kept its projector), or no objective maps "
            "embeddings to the teacher's (as embedding_weight does). Set projector='linear', or leave it out."
        )
    rows = sets.get("training")
    if args.fit_projector and rows is not None and not isinstance(rows, datasets.Dataset):
        raise ValueError(
            f"fit_projector samples from all training rows, but train_dataset is a {type(rows).__name__}. Leave it "
            "out, or load the data without streaming."
        )


def _check_kept(
    objectives: Sequence[Objective], args: DistillTrainingArguments, student: SentenceEncoder | None
) -> None:
    """Refuse to keep a projector if no objective has one, and no earlier stage kept one."""
    has_projector = any(hasattr(objective, "projector") for objective in objectives)
    if args.keep_projector and not has_projector and not (student and student.modules.has_dense):
        raise ValueError(
            "keep_projector, but no objective maps embeddings to the teacher's. Set embedding_weight, or leave "
            "keep_projector out."
        )


def _check_vectors(
    objectives: Sequence[Objective],
    args: DistillTrainingArguments,
    teachers: Sequence[PreTrainedModel | SentenceEncoder],
    sets: Mapping[str, Any],
    *,
    by_vectors: bool,
) -> None:
    """Refuse two sources of the teacher's embeddings, and a pooler for vectors that are pooled already."""
    pooled = any(objective.teacher_request().pooler for objective in objectives)
    both = [name for name, rows in sets.items() if has_vectors(rows)] if teachers and not args.teacher_cache else ()
    if pooled and both:
        raise ValueError(
            f"The {both[0]} rows hold the teacher's embeddings (column {VECTORS!r}), but a teacher is given, too. "
            "Leave out teacher=..., or remove the column."
        )
    if by_vectors and args.teacher_pooler:
        raise ValueError(
            f"teacher_pooler={args.teacher_pooler!r}, but the teacher's vectors in the rows (column {VECTORS!r}) are "
            "pooled already. Leave teacher_pooler out."
        )
