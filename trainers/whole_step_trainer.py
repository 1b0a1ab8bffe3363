"""Base class of trainers whose main objective compares all rows of a step; it also measures collapse."""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from .arguments import DistillTrainingArguments
from .distill_trainer import DistillTrainer
from .objectives import Dimensions, InfoNCEObjective, Objective, WholeStepObjective


class WholeStepTrainer(DistillTrainer):
    """A `DistillTrainer` with an additional objective that compares all rows of a step with one another."""

    contrast: WholeStepObjective | None  # the objective; None if its weight is 0

    @abstractmethod
    def build_contrast(
        self, args: DistillTrainingArguments, student: PreTrainedModel, teacher: Dimensions
    ) -> WholeStepObjective | None:
        """The objective that compares the rows of a step; None if its weight is 0."""

    def build_objectives(self, args, student, teacher) -> list[Objective]:
        """The objectives of `DistillTrainer`, and the one of `build_contrast`."""
        made = super().build_objectives(args, student, teacher)
        self.contrast = self.build_contrast(args, student, teacher)
        return made if self.contrast is None else [*made, self.contrast]

    @torch.no_grad()
    def measure_spread(self, ours: Tensor, theirs: Tensor) -> None:
        """Log alignment and uniformity (Wang & Isola 2020, arXiv:2005.10242), and the spread of cosines.

        Args:
            ours: `[rows, features]`, the student's embeddings. If tau is learnt, their length is 1/tau.
            theirs: `[rows, features]`, their positives.
        """
        if isinstance(self.contrast, InfoNCEObjective) and self.args.learn_temperature:
            self.measure("scale", ours.norm(dim=-1).sum(), len(ours))
        ours, theirs = F.normalize(ours, dim=-1), F.normalize(theirs, dim=-1)
        self.measure("alignment", (ours - theirs).square().sum(), len(ours))
        if len(ours) > 2:
            cosines = off_diagonal(ours)
            self.measure("uniformity", (4 * cosines - 4).exp().mean().log(), 1)
            self.measure("cosine_spread", cosines.std(), 1)


def off_diagonal(vectors: Tensor) -> Tensor:
    """Cosines of all pairs of two unit vectors: `[n, features]` -> `[n * (n - 1) / 2]`."""
    first, second = torch.triu_indices(len(vectors), len(vectors), offset=1, device=vectors.device)
    return (vectors @ vectors.T)[first, second]
