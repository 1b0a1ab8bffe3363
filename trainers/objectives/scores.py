"""Objectives on scores: how well each document answers a query, as a teacher that reads both together says."""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from ...collators import GroupBatch
from ...modeling import losses
from ...modeling.encoding import OutputRequest
from ..arguments import ContrastiveTrainingArguments
from .embeddings import PooledObjective


class ScoreObjective(PooledObjective):
    """Compares the student's scores of the documents of each query with the teacher's, which the rows hold.

    The student's score of a document is the similarity of its embedding to the query's, divided by tau.

    Args:
        weight: in the loss.
        args: with the pooler, what the teacher's scores are, and what the student's are to be.
    """

    def __init__(self, weight: float, args: ContrastiveTrainingArguments):
        super().__init__(weight, args.pooler, args.pooler)
        self.activation = args.score_activation
        self.normalizes, self.score_temperature = args.score_similarity == "cosine", args.student_score_temperature
        self.temperature = args.temperature

    def teacher_request(self):
        return OutputRequest()

    def count(self, batch: GroupBatch):
        return len(batch.groups)

    def values(self, ours, teacher, batch: GroupBatch):
        if batch.scores is None:
            raise ValueError(
                "margin_weight and listwise_weight need a teacher's scores, but the rows hold none. Pass groups with a "
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
        """The loss of each query, `[queries]`, by scores `[queries, documents]`; both are minus infinity where a query
        has fewer documents."""


class MarginObjective(ScoreObjective):
    """MarginMSE (Hofstätter et al. 2020, arXiv:2010.02666): by how much the first document scores above each other."""

    name = "margin"
    description = "difference of the margins between documents from the teacher's (MarginMSE)"
    citation = "hofstaetter2020margin"

    def compare(self, ours, theirs):
        return losses.margin_error(ours, theirs)


class ListwiseObjective(ScoreObjective):
    """KL divergence over the documents of a query (Lin, Yang & Lin 2020, arXiv:2010.11386, section 2.2)."""

    name = "listwise"
    description = "KL divergence of the distribution over documents from the teacher's"
    citation = "lin2020tightly"

    def compare(self, ours, theirs):
        return losses.soft_cross_entropy(ours, theirs, self.temperature)
