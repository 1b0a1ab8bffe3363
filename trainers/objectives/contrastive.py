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
        both_directions: take the mean with InfoNCE from the teacher's embedding to the student's.
        student_negatives: the student's own embeddings of other texts are negatives, too.
    """

    name = "contrastive"
    temperature: float
    learn_temperature: bool
    both_directions: bool
    student_negatives: bool
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

    @property
    def compares_students(self) -> bool:
        """Whether an embedding of the student's has a part in the loss of other rows."""
        return self.both_directions or self.student_negatives

    def values(self, anchors: Tensor, candidates: Candidates) -> Tensor:
        """The loss of each anchor, `[rows]`.

        Args:
            anchors: see `anchors`; where `compares_students`, those of all rows that are to be compared.
            candidates: what they are compared with.
        """
        negatives, same_text = candidates.negatives, candidates.ids[:, None] == candidates.ids
        if self.student_negatives:
            negatives.append((F.normalize(anchors, dim=-1), same_text))
        values = losses.info_nce(anchors, candidates.positives, negatives)
        if not self.both_directions:
            return values
        return (values + losses.info_nce(candidates.positives, anchors, [(anchors, same_text)])) / 2

    def __call__(self, student, teacher, batch):
        anchors = self.anchors(student)
        return batch["share"].of(anchors) if "share" in batch else self.values(anchors, batch["candidates"])
