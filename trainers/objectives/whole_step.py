"""Objectives that compare all rows of an optimizer step with one another."""

from abc import abstractmethod
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ...collators import Batch, GroupBatch
from ...modeling import losses
from ...modeling.encoding import EncoderOutput
from .embeddings import PooledObjective


class WholeStepObjective(PooledObjective):
    """A loss on embeddings whose rows are compared with those of all micro-batches and ranks.

    In training, `StepTrainer` calls `compare` with what the whole step holds; in evaluation, `values` compares the rows
    of a batch. A row that is alone, with nothing to be compared with, has no value.

    Attributes:
        compares_students: whether an embedding of the student's has a part in the loss of other rows.
    """

    compares_rows = True
    compares_students: bool = True

    def embeddings(self, ours: Tensor, batch: Batch) -> Tensor:
        """What is compared, of what `forward` returned: `[rows, ..., features]`, float32."""
        return ours.float()

    @abstractmethod
    def references(self, teacher: EncoderOutput, batch: Batch) -> Tensor | tuple[Tensor, ...]:
        """What rows are compared by, beside the student's embeddings: `[rows, ...]`, or several of these."""

    def compared_with(self, own: Any, everywhere: Any) -> Any:
        """What `compare` needs for some rows, of their own references and those of all rows of the step."""
        return own

    @abstractmethod
    def compare(self, embeddings: Tensor, references: Any) -> Tensor:
        """The loss of each row, `[rows]`, by the embeddings, and what `compared_with` returned, of the same rows."""

    def values(self, ours, teacher, batch):
        own = self.references(teacher, batch)
        return self.compare(self.embeddings(ours, batch), self.compared_with(own, own))


class SimilarityObjective(WholeStepObjective):
    """Difference of the similarity matrices of a step's rows. Widths may differ; no projector is used."""

    name = "similarity"
    description = "difference of similarity matrices"
    citation = "tung2019similarity"

    def references(self, teacher, batch) -> Tensor:
        """The teacher's embeddings, `[rows, features]`."""
        return teacher.embedding

    def compare(self, embeddings, references: Tensor):
        if len(embeddings) == 1:
            return embeddings.sum(-1)[:0]
        return losses.similarity_matrix_error(embeddings, references)


class SimilarityAcrossObjective(WholeStepObjective):
    """Difference of the similarities of sentences to the teacher, and of sentences and translations to the student.

    The loss of Ding et al. 2022 (arXiv:2209.05869), section 3.4: cosines of all sentences of a step with one another,
    as the teacher sees them, against those of the sentences with the translations, as the student does. A sentence's
    cosine with itself is 1, so that its translation is drawn to it. Widths may differ; no projector is used.
    """

    name = "mcl"
    description = "difference of similarities across languages from the teacher's (MCL)"
    citation = "ding2022multistage"

    def count(self, batch: GroupBatch):
        return len(batch.groups)

    def embeddings(self, ours, batch: GroupBatch):
        """`[pairs, 2, features]`."""
        return ours.float()[batch.groups]

    def references(self, teacher, batch) -> Tensor:
        """The teacher's embeddings of the sentences, `[pairs, features]`."""
        return teacher.embedding

    def compare(self, embeddings, references: Tensor):
        sources, targets = F.normalize(embeddings, dim=-1).unbind(1)
        theirs = F.normalize(references.float(), dim=-1)
        return (sources @ targets.T - theirs @ theirs.T).square().mean(-1)
