"""Losses on the embeddings of a whole step, whose rows meet: contrastive ones, and similarities across languages."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ...collators import Batch
from ...modeling import losses
from ...modeling.encoding import EncoderOutput, OutputRequest
from ...modeling.losses import LearnedScale, queue_log_sum_exp
from ..arguments import CKDTrainingArguments, ContrastiveTrainingArguments
from .base import projectors
from .embeddings import PooledObjective, embedding_of


@dataclass(frozen=True)
class ContrastiveObjective(PooledObjective):
    """A loss on embeddings whose rows meet, also with those of other micro-batches and ranks.

    A row that is alone in its step, with nothing to be told from, has no value.
    """

    compares_rows = True

    @abstractmethod
    def embeddings(self, student: EncoderOutput, batch: Batch) -> Tensor:
        """What meets: `[rows, ..., features]`, float32."""

    @abstractmethod
    def values(self, embeddings: Tensor, references: Any) -> Tensor:
        """The loss of each row, `[rows]`. `references` are what it needs beside the embeddings of the same rows."""

    @property
    def compares_students(self) -> bool:
        """Whether an embedding of the student's has a part in the loss of other rows."""
        return True

    def __call__(self, student, teacher, batch):
        embeddings = self.embeddings(student, batch)
        return batch["share"].of(embeddings) if "share" in batch else self.values(embeddings, batch["references"])


@dataclass(frozen=True)
class InfoNCEObjective(ContrastiveObjective):
    """Cross-entropy of one's own among many. The temperature, and whether it is learnt, are among the arguments."""

    name = "contrastive"
    description = "knowing the teacher's embedding of the same text among others (InfoNCE)"
    citation = "gao2021distilcse"
    args: ContrastiveTrainingArguments

    def heads(self) -> dict[str, nn.Module]:
        if not self.args.learn_temperature:
            return {}
        return {"scaled_embedding": LearnedScale(1 / self.args.contrastive_temperature)}

    def embeddings(self, student, batch):
        """The student's embeddings, projected if they are, of length 1/tau."""
        if self.args.learn_temperature:
            return student.projected["scaled_embedding"]
        return F.normalize(embedding_of(student).float(), dim=-1) / self.args.contrastive_temperature


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
    """InfoNCE from the student's embedding to the teacher's (Gao et al. 2021, DistilCSE, arXiv:2112.05638)."""

    args: CKDTrainingArguments
    student_size: int
    teacher_size: int

    def heads(self):
        return projectors(self.student_size, self.teacher_size, "embedding") | super().heads()

    @property
    def compares_students(self):
        return self.args.both_directions or self.args.student_negatives

    def values(self, embeddings, references: Candidates):
        own_ids, (keys, ids) = references.ids, references.step
        if len(keys) == 1 and references.past is None:
            return embeddings.sum(-1)[:0]
        negatives, same_text = [(keys, own_ids[:, None] == ids)], own_ids[:, None] == own_ids
        if self.args.student_negatives:
            negatives.append((F.normalize(embeddings, dim=-1), same_text))
        past = references.past and queue_log_sum_exp(embeddings, own_ids, *references.past)
        values = losses.info_nce(embeddings, references.positives, negatives, past)
        if not self.args.both_directions:
            return values
        return (values + losses.info_nce(references.positives, embeddings, [(embeddings, same_text)])) / 2


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

    def values(self, embeddings, references: Tensor):
        """As for any objective; `references` are the ids of the texts, `[groups, members]`."""
        if references.shape == (1, 2):
            return embeddings.sum((1, 2))[:0]
        anchors, candidates = embeddings[:, 0], F.normalize(embeddings[:, 1:], dim=-1)
        anchor_ids, ids = references[:, 0], references[:, 1:]
        same_anchor = anchor_ids[:, None] == anchor_ids
        negatives = []
        for member in range(candidates.shape[1]):
            own = (anchor_ids[:, None] == ids[:, member]) | (ids[:, :1] == ids[:, member])
            negatives.append((candidates[:, member], own | same_anchor if member == 0 else own))
        return losses.info_nce(anchors, candidates[:, 0], negatives)


@dataclass(frozen=True)
class SimilarityAcrossObjective(ContrastiveObjective):
    """Difference of the similarities of sentences to the teacher, and of sentences and translations to the student.

    The loss of Ding et al. 2022 (arXiv:2209.05869), section 3.4: cosines of all sentences of a step with one another,
    as the teacher sees them, against those of the sentences with the translations, as the student does. A sentence's
    cosine with itself is 1, so that its translation is drawn to it. Widths may differ; no projector is used.
    """

    name = "mcl"
    description = "difference of similarities across languages from the teacher's (MCL)"
    citation = "ding2022multistage"

    def count(self, batch):
        return len(batch["groups"])

    def embeddings(self, student, batch):
        """`[pairs, 2, features]`."""
        return student.embedding.float()[batch["groups"]]

    def values(self, embeddings, references: Tensor):
        """As for any objective; `references` are the teacher's embeddings of the sentences, `[pairs, features]`."""
        sources, targets = F.normalize(embeddings, dim=-1).unbind(1)
        theirs = F.normalize(references.float(), dim=-1)
        return (sources @ targets.T - theirs @ theirs.T).square().mean(-1)
