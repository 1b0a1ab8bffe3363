"""A teacher of which there are only its embeddings, in a column of the dataset."""

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
    """Reads a teacher's embeddings from the column that came with the batch. There is no model to run."""

    def outputs(self, batch: Batch) -> EncoderOutput:
        """The teacher's embeddings for one batch."""
        return EncoderOutput(embedding=batch.teacher_outputs["embedding"])


def vector_width(sets: Mapping[str, Any]) -> int | None:
    """How many numbers the vectors of the first dataset that has some hold, by its first row; None if none has."""
    rows = next(filter(has_vectors, sets.values()), None)
    return None if rows is None else max(1, np.size(next(iter(rows), {}).get(VECTORS)))  # an empty one is refused later


def teacher_dimensions(
    teachers: Sequence[PreTrainedModel | SentenceEncoder],
    args: DistillTrainingArguments,
    vectors: int | None,
    student: PreTrainedModel,
) -> Dimensions | None:
    """The dimensions of the live teachers, of the one whose outputs are cached, or of the one that is given by vectors.

    Args:
        teachers: outlines of the live ones.
        args: with the cache's folder.
        vectors: how many numbers a given vector has; None where there are none.
        student: stands for what vectors don't tell, which no objective reads (see `check_objectives`).

    Returns:
        None without any teacher.
    """
    if teachers:
        return common_dimensions(teachers)
    if args.teacher_cache:
        return CachedTeacher(Path(args.teacher_cache) / "train").dimensions
    return vectors and replace(Dimensions.of(student.config), embedding_size=vectors)
