"""Objectives on embeddings: one vector per row."""

from __future__ import annotations

import copy
from typing import ClassVar

from torch import Tensor, nn

from ...collators import GroupBatch
from ...modeling.encoding import EncoderOutput, OutputRequest, Pooling
from .base import Objective, distance


class PooledObjective(Objective):
    """Base class of objectives that read one embedding per row.

    Args:
        pooler, teacher_pooler: poolers of student and teacher.

    Attributes:
        dims: number of leading dimensions of the student's embeddings that are compared; None for all.
        precision: precision of the student's embeddings that are compared (see `quantization_aware`); None for float32.
        of_groups: whether there is one value per group of texts rather than per row.
    """

    row_wise = True
    of_groups: ClassVar[bool] = False
    dims: int | None = None
    precision: str | None = None

    def __init__(self, weight: float, pooler: str | Pooling, teacher_pooler: str | Pooling):
        super().__init__(weight)
        self.pooler, self.teacher_pooler = pooler, teacher_pooler

    def student_request(self):
        return OutputRequest(pooler=self.pooler)

    def teacher_request(self):
        return OutputRequest(pooler=self.teacher_pooler) if self.reads_teacher else OutputRequest()

    def embedding_of(self, student: EncoderOutput) -> Tensor:
        """`[rows, dims]`, the student's embeddings in the size and precision that are compared."""
        return (student.embedding if self.precision is None else student.quantized)[:, : self.dims]

    def forward(self, student: EncoderOutput) -> Tensor:
        """`[rows, features]`, the embeddings."""
        return self.embedding_of(student)

    def short(self, dims: int, precision: str | None) -> PooledObjective:
        """A copy that compares the first `dims` dimensions in a precision. Its name says so: `similarity_64_binary`."""
        made = copy.copy(self)
        made._modules = copy.deepcopy(self._modules)  # own weights, but not a copy of the run's arguments
        made.dims, made.precision = dims, precision
        made.name = "_".join(filter(None, (self.name, str(dims), precision)))
        made.description = f"{self.description}, first {dims} dimensions" + (f", {precision}" if precision else "")
        return made

    def count(self, batch):
        return len(batch.groups) if self.of_groups else batch.layout.rows


class EmbeddingObjective(PooledObjective):
    """Distance of pooled embeddings (Reimers & Gurevych 2020, arXiv:2004.09813, for `"mse"`).

    Args:
        loss: see `embedding_loss` in `DistillTrainingArguments`.
        projector: maps the student's embeddings to the teacher's width. All objectives on embeddings share it, since it
            may be exported with the student.
    """

    name = "embedding"
    description = "distance of pooled embeddings"
    citation = "reimers2020multilingual"

    def __init__(self, weight, pooler, teacher_pooler, loss: str, projector: nn.Module):
        super().__init__(weight, pooler, teacher_pooler)
        self.loss, self.projector = loss, projector

    def forward(self, student):
        """`[rows, teacher's features]`."""
        return self.projector(self.embedding_of(student))

    def values(self, ours, teacher, batch):
        return distance(self.loss)(ours, teacher.embedding)


class MemberObjective(EmbeddingObjective):
    """Distance between the student's embedding of one text of each group and the teacher's embedding of the group.

    Attributes:
        member: index of the text in its group.
    """

    of_groups = True
    member: int

    def values(self, ours, teacher, batch: GroupBatch):
        return super().values(ours[batch.groups[:, self.member]], teacher, batch)


class SourceObjective(MemberObjective):
    """Distance between student and teacher embeddings of sentences (Reimers & Gurevych 2020, arXiv:2004.09813, eq.
    1)."""

    name = "source"
    description = "distance between embeddings of sentences"
    member = 0


class TargetObjective(MemberObjective):
    """Distance between the student's embedding of a translation and the teacher's embedding of the sentence."""

    name = "target"
    description = "distance between embeddings of translations and the teacher's of the sentences"
    member = 1
