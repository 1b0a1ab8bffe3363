"""Teachers that are given only by their embeddings, in a column of the dataset."""

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


def teacher_dimensions(
    teachers: Sequence[PreTrainedModel | SentenceEncoder],
    args: DistillTrainingArguments,
    vectors: int | None,
    student: PreTrainedModel,
) -> Dimensions | None:
    """The dimensions of the live teachers, of the cached teacher, or of the given vectors.

    Args:
        teachers: outlines of the live teachers.
        args: arguments with the folder of the cache.
        vectors: width of the given vectors; None if there are none.
        student: its dimensions are used where vectors have none; no objective reads them (see `check_objectives`).

    Returns:
        None if there is no teacher.
    """
    if teachers:
        return common_dimensions(teachers)
    if args.teacher_cache:
        return CachedTeacher(Path(args.teacher_cache) / "train").dimensions
    return vectors and replace(Dimensions.of(student.config), embedding_size=vectors)
