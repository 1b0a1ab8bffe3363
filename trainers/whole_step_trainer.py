"""The trainers whose loss compares all rows of a step with one another, and the measures of a collapse."""

from abc import abstractmethod
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from accelerate.utils import concatenate
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..collators import Batch
from .arguments import DistillTrainingArguments
from .distill_trainer import DistillTrainer
from .objectives import ContrastiveObjective, Dimensions, InfoNCEObjective, Objective
from .steps import Meeting, Share, Step, shares


class WholeStepTrainer(DistillTrainer):
    """A `DistillTrainer` with at most one contrastive objective, in which rows of all micro-batches and ranks meet."""

    @abstractmethod
    def build_contrast(
        self, args: DistillTrainingArguments, student: PreTrainedModel, teacher: Dimensions
    ) -> ContrastiveObjective:
        """The contrastive objective, whose weight may be 0."""

    def build_objectives(self, args, student, teacher) -> list[Objective]:
        """Those of `DistillTrainer`, and the contrastive one unless its weight is 0."""
        made, contrast = super().build_objectives(args, student, teacher), self.build_contrast(args, student, teacher)
        return [*made, contrast] if contrast.weight else made

    @property
    def rows_per_step(self) -> int:
        """Rows of an optimizer step, over all micro-batches and ranks."""
        args = self.args
        return args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size

    @property
    def contrast(self) -> ContrastiveObjective | None:
        """The contrastive objective; None if its weight is 0."""
        return next((o for o in self.objectives if isinstance(o, ContrastiveObjective)), None)

    def compared_with(self, own: Any, everywhere: Any) -> Any:
        """What the contrastive objective compares a micro-batch by: its own `references`, and those of the whole step.

        Raises:
            ValueError: a step in which there is nothing to compare with.
        """
        return own

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """Fetch the micro-batches of one optimizer step, and gather what their rows are compared by."""
        batches, step = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.contrast is not None and batches:
            theirs = [super(WholeStepTrainer, self).teacher_outputs(batch, step) for batch in batches]
            own = [self.contrast.references(*each) for each in zip(theirs, batches, strict=True)]
            everywhere = self.accelerator.gather(concatenate(own))  # in the order of the ranks
            references = [self.compared_with(each, everywhere) for each in own]
            step.meeting = Meeting(theirs, references, everywhere)
        return batches, step

    def teacher_outputs(self, batch, step):
        """As `DistillTrainer`, but the outputs of a step whose rows meet are there already, to be read once."""
        made = None if step is None or step.meeting is None else step.meeting.take_teacher(step.batches.index(batch))
        return super().teacher_outputs(batch, step) if made is None else made

    def training_step(self, model, inputs, num_items_in_batch=None) -> Tensor:
        """Forward and backward of a micro-batch; before the first of a step whose rows meet, shares are computed."""
        step = num_items_in_batch
        # Not where the batches were fetched: there, a resumed run has not restored its random state yet.
        if inputs is step.batches[0] and self._students_meet(step):
            model.train()
            step.meeting.shares = self._shares(model, step)
        return super().training_step(model, inputs, step)

    def _students_meet(self, step: Step) -> bool:
        """Whether embeddings of the student's are compared that come from several micro-batches or ranks."""
        return step.meeting is not None and self.contrast.compares_students and len(step.batches) * step.ranks > 1

    def _shares(self, model: nn.Module, step: Step) -> list[Share]:
        """Each micro-batch's share of the loss of the whole step."""
        everywhere = step.meeting.everywhere

        def embed(batch: Batch) -> Tensor:
            return self.contrast.embeddings(model(batch.student, batch.layout).compared[self.contrast], batch)

        loss = partial(self.contrast.compare, references=self.compared_with(everywhere, everywhere))
        return shares(step.batches, embed, loss, self.accelerator)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """As `DistillTrainer`; a micro-batch has the dropout that it had when its share was computed."""
        if (share := self._share_of(inputs, num_items_in_batch)) is not None:
            share.random.restore()
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def values_of(self, objective, ours, theirs, batch, step):
        """As `DistillTrainer`; in training, the rows of the whole step meet."""
        if objective is not self.contrast or step is None:
            return super().values_of(objective, ours, theirs, batch, step)
        embeddings, share = objective.embeddings(ours, batch), self._share_of(batch, step)
        if share is not None:
            return share.of(embeddings)
        return objective.compare(embeddings, step.meeting.references[step.batches.index(batch)])

    @staticmethod
    def _share_of(batch: Batch, step: Step | None) -> Share | None:
        """The share of a micro-batch of a step in which students meet; else None."""
        if step is None or step.meeting is None or not step.meeting.shares:
            return None
        return step.meeting.shares[step.batches.index(batch)]

    @torch.no_grad()
    def measure_spread(self, ours: Tensor, theirs: Tensor) -> None:
        """Log alignment and uniformity (Wang & Isola 2020, arXiv:2005.10242), and how far cosines spread.

        Args:
            ours: `[rows, features]`, the student's embeddings; where a temperature is learnt, of length 1/tau.
            theirs: `[rows, features]`, what they are to come near to.
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
