"""Objectives on a cross-encoder's scores of the documents of a query."""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from ...collators import GroupBatch
from ...modeling import losses
from ..arguments import ContrastiveTrainingArguments
from .embeddings import PooledObjective


class ScoreObjective(PooledObjective):
    """Base class of objectives that compare the student's scores of a query's documents with the teacher's.

    The teacher's scores are in the rows. The student's score of a document is the similarity of the embeddings of query
    and document, divided by tau.

    Args:
        args: arguments with the pooler, the kind of the teacher's scores, the similarity and the temperatures.
    """

    reads_teacher = False
    of_groups = True

    def __init__(self, weight: float, args: ContrastiveTrainingArguments):
        super().__init__(weight, args.pooler, args.pooler)
        self.activation = args.score_activation
        self.normalizes, self.score_temperature = args.score_similarity == "cosine", args.student_score_temperature
        self.temperature = args.temperature

    def values(self, ours, teacher, batch: GroupBatch):
        if batch.scores is None:
            raise ValueError(
                "margin_weight and listwise_weight need a teacher's scores, but the rows have none. Pass groups with a "
                "column 'scores' to tokenize_groups(); score_groups() writes it."
            )
        theirs, padding = batch.scores, batch.scores == -torch.inf
        if self.activation == "sigmoid":
            theirs = theirs.logit().masked_fill(padding, -torch.inf)
        groups = ours.float()[batch.groups]
        groups = F.normalize(groups, dim=-1) if self.normalizes else groups
        scores = (groups[:, 1:] @ groups[:, 0, :, None])[..., 0] / self.score_temperature
        return self.compare(scores.masked_fill(padding, -torch.inf), theirs)

    @abstractmethod
    def compare(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """The loss of each query, `[queries]`. `ours` and `theirs` are scores, `[queries, documents]`, padded with
        minus infinity for queries with fewer documents."""


class MarginObjective(ScoreObjective):
    """MarginMSE (Hofstätter et al. 2020, arXiv:2010.02666): the first document's score minus that of others."""

    name = "margin"
    description = "difference of score margins between documents (MarginMSE)"
    citation = "hofstaetter2020margin"

    def compare(self, ours, theirs):
        return losses.margin_error(ours, theirs)


class ListwiseObjective(ScoreObjective):
    """KL divergence over the documents of a query (Lin, Yang & Lin 2020, arXiv:2010.11386, section 2.2)."""

    name = "listwise"
    description = "KL divergence over the documents of a query"
    citation = "lin2020tightly"

    def compare(self, ours, theirs):
        return losses.soft_cross_entropy(ours, theirs, self.temperature)
