"""Teachers that are given only by their embeddings, in a column of the dataset; and the dimensions of any teacher."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from ...collators import Batch
from ...data import VECTORS, has_vectors
from ...modeling.encoding import EncoderOutput, SentenceEncoder
from ..arguments import DistillTrainingArguments
from ..objectives import Dimensions
from .cached import CachedTeacher
from .live import common_dimensions


class GivenVectors:
    """Reads a teacher's embeddings from the batch, instead of running a model."""

    def outputs(self, batch: Batch) -> EncoderOutput:
        """The teacher's embeddings for one batch."""
        return EncoderOutput(embedding=batch.teacher_outputs["embedding"])


def vector_width(sets: Mapping[str, Any]) -> int | None:
    """Width of the vectors, from the first row of the first dataset that has some; None if no dataset has vectors."""
    rows = next(filter(has_vectors, sets.values()), None)
    return None if rows is None else max(1, np.size(next(iter(rows), {}).get(VECTORS)))  # empty ones are refused later


def first_cache(args: DistillTrainingArguments, train: Any, evaluated: Any) -> Path | None:
    """The folder of a run's first cache. A teacher's dimensions are the same in all of them.

    Args:
        args: arguments with the folder of all caches.
        train, evaluated: the datasets of the trainer.
    """
    if not args.teacher_cache:
        return None
    named = next(iter(evaluated)) if isinstance(evaluated, dict) and evaluated else None
    name = "train" if train is not None else "eval" if named is None else f"eval-{named}"
    return Path(args.teacher_cache) / name


def teacher_dimensions(
    teachers: Sequence[PreTrainedModel | SentenceEncoder],
    cache: Path | None,
    vectors: int | None,
    student: PreTrainedModel,
) -> Dimensions | None:
    """The dimensions of the live teachers, of the cached teacher, or of the given vectors.

    Args:
        teachers: outlines of the live teachers.
        cache: a cache of the run (see `first_cache`); None if there is none.
        vectors: width of the given vectors; None if there are none.
        student: its dimensions are used where vectors have none; no objective reads them (see `check_objectives`).

    Returns:
        None if there is no teacher.
    """
    if teachers:
        return common_dimensions(teachers)
    if cache is not None:
        return CachedTeacher(cache).dimensions
    return vectors and replace(Dimensions.of(student.config), embedding_size=vectors)
