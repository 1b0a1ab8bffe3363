"""Objectives on a sentence and its translation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from .base import distance
from .contrastive import ContrastiveObjective
from .embeddings import EmbeddingObjective


@dataclass(frozen=True)
class SourceObjective(EmbeddingObjective):
    """Distance of the student's embedding of a sentence from the teacher's (Reimers & Gurevych 2020,
    arXiv:2004.09813, eq. 1)."""

    name = "source"
    description = "distance of embeddings of sentences from the teacher's"
    member: ClassVar[int] = 0

    def count(self, batch):
        return len(batch["groups"])

    def __call__(self, student, teacher, batch):
        embeddings = student.projected.get("embedding", student.embedding)
        return distance(self.loss)(embeddings[batch["groups"][:, self.member]], teacher.embedding)


@dataclass(frozen=True)
class TargetObjective(SourceObjective):
    """Distance of the student's embedding of a translation from the teacher's of the sentence."""

    name = "target"
    description = "distance of embeddings of translations from the teacher's of the sentences"
    member = 1


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

    def values(self, embeddings: Tensor, others: Tensor):
        sources, targets = F.normalize(embeddings, dim=-1).unbind(1)
        theirs = F.normalize(others.float(), dim=-1)
        return (sources @ targets.T - theirs @ theirs.T).square().mean(-1)

    def others(self, batch):
        """The teacher's embeddings of the sentences, `[pairs, features]`."""
        return batch["teacher_made"].embedding
