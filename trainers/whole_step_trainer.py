"""The trainers whose loss compares all rows of a step with one another, and the measures of a collapse."""

from abc import abstractmethod
from functools import partial

import torch
import torch.nn.functional as F
from accelerate.utils import concatenate
from torch import Tensor
from transformers import PreTrainedModel

from ..collators import Batch
from ..modeling.encoding import EncoderOutput
from .arguments import DistillTrainingArguments
from .distill_trainer import DistillTrainer
from .objectives import ContrastiveObjective, Dimensions, InfoNCEObjective, Objective
from .steps import shares


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

    @abstractmethod
    def references(self, batch: Batch) -> Tensor | tuple[Tensor, ...]:
        """What the contrastive loss needs of a batch beside the student's embeddings: `[rows, ...]`, or several."""

    def compared_with(self, own, step=None):
        """What the contrastive objective compares a batch by.

        Args:
            own: the batch's `references`.
            step: those of the whole step, on all ranks; None in evaluation, where a batch is alone.

        Raises:
            ValueError: a step in which there is nothing to compare with.
        """
        return own

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """Fetch the micro-batches of one optimizer step, and gather what their rows are compared by."""
        batches, counts = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.contrast is None or not batches:
            return batches, counts
        parts = [self.references(batch) for batch in batches]
        step = self.accelerator.gather(concatenate(parts))  # in the order of the ranks
        for batch, own in zip(batches, parts, strict=True):
            batch["references"] = self.compared_with(own, step)
        batches[-1]["ends_step"] = True
        if self.contrast.compares_students and (len(batches) > 1 or self.args.world_size > 1):
            batches[0]["whole_step"] = list(batches), self.compared_with(step, step)
        return batches, counts

    def run_teacher(self, batch: Batch) -> EncoderOutput:
        """The teacher's outputs, before a batch is trained on; they are kept in it."""
        batch["teacher_made"] = self.teacher.outputs(batch)
        return batch["teacher_made"]

    def teacher_outputs(self, batch: Batch) -> EncoderOutput:
        """As `DistillTrainer`, but for what `run_teacher` has made already."""
        return batch["teacher_made"] if "teacher_made" in batch else super().teacher_outputs(batch)

    def training_step(self, model, inputs, num_items_in_batch=None) -> Tensor:
        """Forward and backward of a micro-batch; before the first of a step whose rows meet, shares are computed."""
        # Not where the batches were fetched: there, a resumed run has not restored its random state yet.
        if "whole_step" in inputs:
            batches, references = inputs.pop("whole_step")
            model.train()

            def embed(batch: Batch) -> Tensor:
                return self.contrast.embeddings(model(batch["student"], batch["layout"]), batch)

            loss = partial(self.contrast.values, references=references)
            for batch, share in zip(batches, shares(batches, embed, loss, self.accelerator), strict=True):
                batch["share"] = share
        return super().training_step(model, inputs, num_items_in_batch)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """As `DistillTrainer`; in evaluation, the rows of a batch are compared with one another.

        In training, a micro-batch has the dropout that it had when its share was computed.
        """
        if self.contrast is not None and "references" not in inputs:
            inputs["references"] = self.compared_with(self.references(inputs))
        if "share" in inputs:
            inputs["share"].random.restore()
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

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
