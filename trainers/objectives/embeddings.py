"""Objectives on embeddings: one vector per row."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ...modeling import losses
from ...modeling.encoding import OutputRequest
from .base import Objective, distance


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
    """Distance of pooled embeddings (Reimers & Gurevych 2020, arXiv:2004.09813, for `"mse"`)."""

    name = "embedding"
    description = "distance of pooled embeddings"
    citation = "reimers2020multilingual"
    loss: str
    student_size: int
    teacher_size: int

    def heads(self):
        if self.student_size == self.teacher_size:
            return {}
        return {"embedding": nn.Linear(self.student_size, self.teacher_size)}

    def __call__(self, student, teacher, batch):
        return distance(self.loss)(student.projected.get("embedding", student.embedding), teacher.embedding)


@dataclass(frozen=True)
class SimilarityObjective(PooledObjective):
    """Difference of the batch's similarity matrices. Widths may differ; no projector is used."""

    name = "similarity"
    description = "difference of similarity matrices"
    citation = "tung2019similarity"

    def __call__(self, student, teacher, batch):
        return losses.similarity_matrix_error(student.embedding, teacher.embedding)
