"""Objectives on embeddings: one vector per row."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...modeling import losses
from ...modeling.encoding import EncoderOutput, OutputRequest
from .base import Objective, distance, projectors


def embedding_of(student: EncoderOutput) -> Tensor:
    """The student's embeddings, projected if they are."""
    return student.projected.get("embedding", student.embedding)


@dataclass(frozen=True)
class PooledObjective(Objective):
    """What reads one vector per row of either side."""

    pooler: str
    teacher_pooler: str

    def student_request(self):
        return OutputRequest(pooler=self.pooler)

    def teacher_request(self):
        return OutputRequest(pooler=self.teacher_pooler)

    def count(self, batch):
        return batch["layout"].rows


@dataclass(frozen=True)
class EmbeddingObjective(PooledObjective):
    """Distance of pooled embeddings (Reimers & Gurevych 2020, arXiv:2004.09813, for `"mse"`).

    Attributes:
        member: which text of a group the teacher's embedding is compared with; None for rows of one text.
    """

    name = "embedding"
    description = "distance of pooled embeddings"
    citation = "reimers2020multilingual"
    member: ClassVar[int | None] = None
    loss: str
    student_size: int
    teacher_size: int

    def heads(self):
        return projectors(self.student_size, self.teacher_size, "embedding")

    def count(self, batch):
        return super().count(batch) if self.member is None else len(batch["groups"])

    def __call__(self, student, teacher, batch):
        ours = embedding_of(student)
        if self.member is not None:
            ours = ours[batch["groups"][:, self.member]]
        return distance(self.loss)(ours, teacher.embedding)


@dataclass(frozen=True)
class SourceObjective(EmbeddingObjective):
    """Distance of the student's embedding of a sentence from the teacher's (Reimers & Gurevych 2020,
    arXiv:2004.09813, eq. 1)."""

    name = "source"
    description = "distance of embeddings of sentences from the teacher's"
    member = 0


@dataclass(frozen=True)
class TargetObjective(EmbeddingObjective):
    """Distance of the student's embedding of a translation from the teacher's of the sentence."""

    name = "target"
    description = "distance of embeddings of translations from the teacher's of the sentences"
    member = 1


@dataclass(frozen=True)
class SimilarityObjective(PooledObjective):
    """Difference of the batch's similarity matrices. Widths may differ; no projector is used."""

    name = "similarity"
    description = "difference of similarity matrices"
    citation = "tung2019similarity"
    compares_rows = True

    def count(self, batch):
        return super().count(batch) if batch["layout"].rows > 1 else 0

    def __call__(self, student, teacher, batch):
        if not self.count(batch):  # a remainder of one row, which has nothing to be compared with
            return student.embedding.float().sum(-1)[:0]
        return losses.similarity_matrix_error(student.embedding, teacher.embedding)
