"""All checks of a run, made once before weights are loaded or anything is written."""

from collections.abc import Callable, Mapping
from typing import Any

import datasets

from ...data import VECTORS, has_vectors
from ...modeling.encoding import SentenceEncoder
from ..objectives import PooledObjective, Projector, teacher_request
from .objectives import check_objectives
from .run import check_cached_rows, check_optimizer, check_token_budget, check_trained
from .setup import Setup


def validate(
    setup: Setup, sets: Mapping[str, Any], trainer_arguments: Mapping[str, Any], check_rows: Callable[[Any, str], None]
) -> None:
    """Refuse a run that would train on wrong numbers without an error, or fail after an hour.

    Args:
        setup: the models, the objectives and the arguments.
        sets: all datasets by their names in messages.
        trainer_arguments: further arguments of `transformers.Trainer`.
        check_rows: the check of a dataset, called with it and its name.

    Raises:
        ValueError: with the given value, the expected one, and a way to fix it.
    """
    for rows in sets.values():
        check_cached_rows(rows, setup.args)
    _check_teacher_pooler(setup)
    _check_prompt_name(setup)
    _check_fit(setup, sets)
    _check_kept(setup)
    check_objectives(setup)
    _check_vectors(setup, sets)
    check_optimizer(setup.objectives, trainer_arguments)
    if "training" in sets:
        check_trained(setup)
    for name, rows in (sets or {"training": None}).items():
        check_rows(rows, name)
    check_token_budget(sets.get("training"), setup.args)


def _check_teacher_pooler(setup: Setup) -> None:
    """Refuse a teacher without a pooler, if the student's pooling has several modes and can't be its default."""
    student, pooled = setup.student_encoder, teacher_request(setup.objectives).pooler
    bare = [teacher for teacher in setup.teachers if not isinstance(teacher, SentenceEncoder)]
    if student and len(student.modules.pooling.modes) > 1 and bare and pooled and setup.args.teacher_pooler is None:
        raise ValueError(
            f"The student pools by {student.modules.pooling}, but the pooling of the teacher, a "
            f"{type(bare[0]).__name__}, is unknown. Set teacher_pooler."
        )


def _check_prompt_name(setup: Setup) -> None:
    """Refuse the name of a prompt for a teacher that has no prompts."""
    args, teachers = setup.args, setup.teachers
    only_cached = args.teacher_cache and not teachers
    without = not teachers or any(not isinstance(teacher, SentenceEncoder) for teacher in teachers)
    if args.teacher_prompt_name is not None and without and not only_cached:
        raise ValueError(
            f"teacher_prompt_name={args.teacher_prompt_name!r}, but only sentence-transformers models have prompts, "
            f"and {'this teacher is not one' if teachers else 'there is no teacher'}. Leave it out. The prompt of "
            "given vectors is chosen when they are made (`retort cache --prompt_name`)."
        )


def _check_fit(setup: Setup, sets: Mapping[str, Any]) -> None:
    """Refuse to fit a projector that isn't there, or on a stream."""
    args = setup.args
    pooled = [objective for objective in setup.objectives if isinstance(objective, PooledObjective)]
    projected = any(isinstance(getattr(objective, "projector", None), Projector) for objective in pooled)
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


def _check_kept(setup: Setup) -> None:
    """Refuse to keep a projector if no objective has one, and no earlier stage kept one."""
    has_projector = any(hasattr(objective, "projector") for objective in setup.objectives)
    has_dense = setup.student_encoder is not None and setup.student_encoder.modules.has_dense
    if setup.args.keep_projector and not has_projector and not has_dense:
        raise ValueError(
            "keep_projector, but no objective maps embeddings to the teacher's. Set embedding_weight, or leave "
            "keep_projector out."
        )


def _check_vectors(setup: Setup, sets: Mapping[str, Any]) -> None:
    """Refuse two sources of the teacher's embeddings, and a pooler for vectors that are pooled already."""
    args, is_live = setup.args, setup.teachers and not setup.args.teacher_cache
    both = [name for name, rows in sets.items() if has_vectors(rows)] if is_live else ()
    if both and teacher_request(setup.objectives).pooler:
        raise ValueError(
            f"The {both[0]} rows hold the teacher's embeddings (column {VECTORS!r}), but a teacher is given, too. "
            "Leave out teacher=..., or remove the column."
        )
    if setup.vectors and args.teacher_pooler:
        raise ValueError(
            f"teacher_pooler={args.teacher_pooler!r}, but the teacher's vectors in the rows (column {VECTORS!r}) are "
            "pooled already. Leave teacher_pooler out."
        )
