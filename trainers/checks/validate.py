"""All checks of a run, made once before weights are loaded or anything is written."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel

from ...data import VECTORS, has_vectors
from ...modeling.encoding import SentenceEncoder
from ..arguments import DistillTrainingArguments
from ..objectives import Objective
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
