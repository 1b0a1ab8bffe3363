"""Contrastive objectives: to know one's own among many."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ...collators import Batch
from ...modeling import losses
from ...modeling.encoding import EncoderOutput, OutputRequest
from ...modeling.losses import LearnedScale, queue_log_sum_exp
from .embeddings import PooledObjective


@dataclass(frozen=True)
class ContrastiveObjective(PooledObjective):
    """A loss on embeddings whose rows meet, also with those of other micro-batches and ranks."""

    @abstractmethod
    def embeddings(self, student: EncoderOutput, batch: Batch) -> Tensor:
        """What meets: `[rows, ..., features]`, float32."""

    @abstractmethod
    def values(self, embeddings: Tensor, others: Any) -> Tensor:
        """The loss of each row, `[rows]`, among `others`."""

    @abstractmethod
    def others(self, batch: Batch) -> Any:
        """What a batch that is alone is compared with."""

    def __call__(self, student, teacher, batch):
        embeddings = self.embeddings(student, batch)
        return batch["share"].of(embeddings) if "share" in batch else self.values(embeddings, self.others(batch))


@dataclass(frozen=True)
class InfoNCEObjective(ContrastiveObjective):
    """Cross-entropy of one's own among many.

    Attributes:
        temperature: tau, divides the cosines; where it is learnt, at the start.
        learn_temperature: whether it is a parameter.
    """

    name = "contrastive"
    description = "knowing the teacher's embedding of the same text among others (InfoNCE)"
    citation = "gao2021distilcse"
    temperature: float
    learn_temperature: bool

    def heads(self) -> dict[str, nn.Module]:
        return {"scaled_embedding": LearnedScale(1 / self.temperature)} if self.learn_temperature else {}

    def embeddings(self, student, batch):
        """The student's embeddings, projected if they are, of length 1/tau."""
        if self.learn_temperature:
            return student.projected["scaled_embedding"]
        return F.normalize(student.projected.get("embedding", student.embedding).float(), dim=-1) / self.temperature


@dataclass(frozen=True)
class Candidates:
    """The keys that anchors are compared with, all of them unit vectors.

    Attributes:
        positives: `[rows, features]`, each anchor's own.
        ids: `[rows]`, what text each anchor is of.
        step: keys of the whole step `[m, features]` with the ids `[m]` of their texts.
        past: likewise, of past steps; None if there are none.
    """

    positives: Tensor
    ids: Tensor
    step: tuple[Tensor, Tensor]
    past: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class TeacherContrastObjective(InfoNCEObjective):
    """InfoNCE from the student's embedding to the teacher's (Gao et al. 2021, DistilCSE, arXiv:2112.05638).

    Attributes:
        both_directions: take the mean with InfoNCE from the teacher's embedding to the student's.
        student_negatives: the student's own embeddings of other texts are negatives, too.
    """

    both_directions: bool
    student_negatives: bool
    student_size: int
    teacher_size: int

    def heads(self):
        if self.student_size == self.teacher_size:
            return super().heads()
        return {"embedding": nn.Linear(self.student_size, self.teacher_size)} | super().heads()

    @property
    def compares_students(self) -> bool:
        """Whether an embedding of the student's has a part in the loss of other rows."""
        return self.both_directions or self.student_negatives

    def values(self, embeddings, others: Candidates):
        keys, ids = others.step
        negatives, same_text = [(keys, others.ids[:, None] == ids)], others.ids[:, None] == others.ids
        if self.student_negatives:
            negatives.append((F.normalize(embeddings, dim=-1), same_text))
        past = others.past and queue_log_sum_exp(embeddings, others.ids, *others.past)
        values = losses.info_nce(embeddings, others.positives, negatives, past)
        if not self.both_directions:
            return values
        return (values + losses.info_nce(others.positives, embeddings, [(embeddings, same_text)])) / 2

    def others(self, batch):
        return batch["candidates"]


@dataclass(frozen=True)
class GroupContrastObjective(InfoNCEObjective):
    """InfoNCE from an anchor to its positive, among the positives and hard negatives of all groups of a step.

    Gao, Yao & Chen 2021, SimCSE, arXiv:2104.08821, eq. 4 and 5. A group is an anchor, a positive and any number of
    hard negatives; its embeddings are `[groups, members, features]`. A text that is the anchor's or the positive's own,
    and the positive of another copy of the anchor, is no negative.
    """

    name = "positives"
    description = "knowing a text's positive among others (InfoNCE)"
    citation = "gao2021simcse"

    def teacher_request(self):
        return OutputRequest()

    def count(self, batch):
        return len(batch["groups"])

    def embeddings(self, student, batch):
        return super().embeddings(student, batch)[batch["groups"]]

    def values(self, embeddings, others: Tensor):
        anchors, candidates = embeddings[:, 0], F.normalize(embeddings[:, 1:], dim=-1)
        anchor_ids, ids = others[:, 0], others[:, 1:]
        same_anchor = anchor_ids[:, None] == anchor_ids
        negatives = []
        for member in range(candidates.shape[1]):
            own = (anchor_ids[:, None] == ids[:, member]) | (ids[:, :1] == ids[:, member])
            negatives.append((candidates[:, member], own | same_anchor if member == 0 else own))
        return losses.info_nce(anchors, candidates[:, 0], negatives)

    def others(self, batch):
        """The ids of the texts, `[groups, members]`."""
        return batch["group_ids"]
