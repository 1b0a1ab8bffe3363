"""Objectives that compare all rows of an optimizer step with one another."""

from abc import abstractmethod
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ...collators import Batch
from ...modeling import losses
from ...modeling.encoding import EncoderOutput
from .embeddings import PooledObjective


class WholeStepObjective(PooledObjective):
    """Base class of objectives on embeddings that compare the rows of all micro-batches and ranks.

    In training, `StepTrainer` calls `compare` with the references of the whole step. In evaluation, `values` compares
    the rows of a batch. A single row has nothing to be compared with, so it has no value.

    Attributes:
        compares_students: whether the loss of a row depends on the student's embeddings of other rows.
    """

    compares_rows = True
    compares_students: bool = True

    def embeddings(self, ours: Tensor, batch: Batch) -> Tensor:
        """The embeddings that are compared, from the result of `forward`, float32: `[rows, features]`, or of groups
        `[groups, members, features]`."""
        return ours.float()[batch.groups] if self.of_groups else ours.float()

    def references(self, teacher: EncoderOutput, batch: Batch) -> Tensor | tuple[Tensor, ...]:
        """The tensors that the student's embeddings are compared with, `[rows, ...]`: the teacher's embeddings."""
        return teacher.embedding

    def compared_with(self, own: Any, everywhere: Any) -> Any:
        """The `references` of `compare`, from those of some rows (`own`) and of all rows of the step (`everywhere`)."""
        return own

    @abstractmethod
    def compare(self, embeddings: Tensor, references: Any) -> Tensor:
        """The loss of each row, `[rows]`. `references` is the result of `compared_with` for the same rows."""

    def values(self, ours, teacher, batch):
        own = self.references(teacher, batch)
        return self.compare(self.embeddings(ours, batch), self.compared_with(own, own))


class SimilarityObjective(WholeStepObjective):
    """Difference between the similarity matrices of a step's rows. Widths may differ; no projector is used."""

    name = "similarity"
    description = "difference of similarity matrices"
    citation = "tung2019similarity"

    def compare(self, embeddings, references: Tensor):
        if len(embeddings) == 1:
            return embeddings.sum(-1)[:0]
        return losses.similarity_matrix_error(embeddings, references, of_signs=self.precision == "binary")


class SimilarityAcrossObjective(WholeStepObjective):
    """Difference between two similarity matrices: the teacher's of sentences with sentences, and the student's of
    sentences with translations.

    This is the loss of Ding et al. 2022 (arXiv:2209.05869), section 3.4, over all sentences of a step. A sentence's
    cosine with itself is 1, which pulls the translation towards the sentence. Widths may differ; no projector is used.
    """

    name = "mcl"
    description = "difference of similarities across languages (MCL)"
    citation = "ding2022multistage"
    of_groups = True

    def compare(self, embeddings, references: Tensor):
        sources, targets = F.normalize(embeddings, dim=-1).unbind(1)
        theirs = F.normalize(references.float(), dim=-1)
        expected = theirs @ theirs.T
        if self.precision == "binary":
            expected = losses.cosines_of_signs(expected)
        return (sources @ targets.T - expected).square().mean(-1)
