"""The contrastive objective: to know one's own teacher embedding among many."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ...modeling import losses
from ...modeling.learned_scale import LearnedScale
from .embeddings import PooledObjective


@dataclass(frozen=True)
class Candidates:
    """The keys that a batch's anchors are compared with, all of them unit vectors.

    Attributes:
        positives: `[rows, features]`, each anchor's own.
        ids: `[rows]`, what text each anchor is of.
        pools: sets of keys `[m, features]` with the ids `[m]` of their texts.
    """

    positives: Tensor
    ids: Tensor
    pools: tuple[tuple[Tensor, Tensor], ...]

    @property
    def negatives(self) -> list[tuple[Tensor, Tensor]]:
        """The pools, each with a mask `[rows, m]` that is True where a key is of the anchor's own text."""
        return [(keys, self.ids[:, None] == ids) for keys, ids in self.pools]


@dataclass(frozen=True)
class ContrastiveObjective(PooledObjective):
    """InfoNCE from the student's embedding to the teacher's (Gao et al. 2021, DistilCSE, arXiv:2112.05638).

    Attributes:
        temperature: tau, divides the cosines; where it is learnt, at the start.
        learn_temperature: whether it is a parameter.
    """

    name = "contrastive"
    temperature: float
    learn_temperature: bool
    student_size: int
    teacher_size: int

    def heads(self):
        heads = {}
        if self.student_size != self.teacher_size:
            heads["embedding"] = nn.Linear(self.student_size, self.teacher_size)
        if self.learn_temperature:
            heads["scaled_embedding"] = LearnedScale(1 / self.temperature)
        return heads

    def anchors(self, student) -> Tensor:
        """The student's embeddings in the teacher's width, of length 1/tau: `[rows, features]`, float32."""
        if self.learn_temperature:
            return student.projected["scaled_embedding"]
        return F.normalize(student.projected.get("embedding", student.embedding).float(), dim=-1) / self.temperature

    def __call__(self, student, teacher, batch):
        candidates: Candidates = batch["candidates"]
        return losses.info_nce(self.anchors(student), candidates.positives, candidates.negatives)
