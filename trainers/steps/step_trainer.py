"""A Trainer whose loss is a mean over the whole optimizer step, regardless of micro-batches and ranks."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from accelerate.utils import concatenate
from torch import Tensor, nn

from ...collators import Batch
from ...modeling import StudentOutput
from ...modeling.encoding import EncoderOutput
from ..objectives import Objective, WholeStepObjective
from .gradient_cache import RandomState, shares
from .loading_trainer import LoadingTrainer
from .step import MicroBatch, Step


class StepTrainer(LoadingTrainer):
    """Minimises the weighted sum of objectives, each averaged over all micro-batches and ranks of a step.

    So steps of 1 x 64 rows, 4 x 16 rows and 2 ranks x 32 rows have the same gradient, even if an objective compares the
    rows of the whole step with one another.
    """

    # `compute_loss` divides by counts of the whole optimizer step, so the Trainer must not divide again
    # (https://github.com/huggingface/transformers/issues/47688).
    loss_is_scaled_for_ga = True

    objectives: Sequence[Objective]

    @abstractmethod
    def read_batch(self, inputs: Any, *, training: bool) -> Batch:
        """Convert the collator's output to the batch that objectives read."""

    @abstractmethod
    def run_teacher(self, batch: Batch) -> EncoderOutput:
        """The teacher's outputs for a batch."""

    def measure_outputs(self, ours: StudentOutput, theirs: EncoderOutput, batch: Batch) -> None:
        """Log further measures of the outputs for a batch."""

    # --- The step -----------------------------------------------------------------------------------------------------

    def get_batch_samples(self, epoch_iterator, num_batches, device) -> tuple[Sequence[Batch], Step]:
        """Fetch the micro-batches of one optimizer step; the `Step` takes the place of `num_items_in_batch`."""
        made = self.next_batches(epoch_iterator, num_batches)
        batches = [self.read_batch(batch, training=True).to(device) for batch in made]
        step = Step.of(batches, self.objectives, self.accelerator)
        if batches and (comparing := [o for o in self.objectives if isinstance(o, WholeStepObjective)]):
            self._gather(step, comparing)
        return batches, step

    def _gather(self, step: Step, objectives: Sequence[WholeStepObjective]) -> None:
        """Run the teacher on all micro-batches, and gather the references of all ranks."""
        theirs = [self.run_teacher(batch) for batch in step.batches]
        own = [
            {objective: objective.references(*each) for objective in objectives}
            for each in zip(theirs, step.batches, strict=True)
        ]
        step.everywhere = everywhere = {
            objective: self.accelerator.gather(concatenate([each[objective] for each in own]))  # in the ranks' order
            for objective in objectives
        }
        references = [{o: self.compared_with(o, each[o], everywhere[o]) for o in objectives} for each in own]
        step.micro_batches = [MicroBatch(*parts) for parts in zip(theirs, references, strict=True)]

    def compared_with(self, objective: WholeStepObjective, own: Any, everywhere: Any) -> Any:
        """See `WholeStepObjective.compared_with`. Subclasses may add references."""
        return objective.compared_with(own, everywhere)

    def training_step(self, model, inputs, num_items_in_batch=None) -> Tensor:
        """Forward and backward pass of a micro-batch. Before the first one of a step, the `Share` of each micro-batch
        is computed, if student embeddings are compared with one another.
        """
        step = num_items_in_batch
        # Not in `get_batch_samples`: a resumed run restores its random state after that call.
        if inputs is step.batches[0] and step.micro_batches and len(step.batches) * step.ranks > 1:
            model.train()
            if callable(getattr(self.optimizer, "train", None)):  # evaluation puts schedule-free optimizers in eval
                self.optimizer.train()
            self._compute_shares(model, step)
        loss = super().training_step(model, inputs, step)
        if self.model.quantizer is not None and inputs is step.batches[-1]:
            self.model.quantizer.update(self.accelerator.gather)
        return loss

    def _compute_shares(self, model: nn.Module, step: Step) -> None:
        """Compute each micro-batch's share of the losses that compare student embeddings with one another."""
        objectives = [objective for objective in step.everywhere if objective.compares_students]
        if not objectives:
            return
        embeddings: list[list[Tensor]] = []
        for batch, part in zip(step.batches, step.micro_batches, strict=True):
            part.random = RandomState(self.accelerator.device)
            with torch.no_grad():
                compared = model(batch.student, batch.layout).compared
            embeddings.append([objective.embeddings(compared[objective], batch).float() for objective in objectives])
        for objective, made in zip(objectives, zip(*embeddings, strict=True), strict=True):
            references = step.everywhere[objective]
            references = self.compared_with(objective, references, references)
            found = shares(made, partial(objective.compare, references=references), self.accelerator)
            for part, share in zip(step.micro_batches, found, strict=True):
                part.shares[objective] = share

    # --- The loss -----------------------------------------------------------------------------------------------------

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Step | None = None,
    ) -> Tensor | tuple[Tensor, StudentOutput]:
        """The weighted sum of all objectives.

        `num_items_in_batch` is the step of the batch. It is None in evaluation, where each batch is averaged
        separately.
        """
        step, part = num_items_in_batch, None
        if step is not None and step.micro_batches:
            part = step.micro_batches[step.batches.index(inputs)]
        theirs = None if part is None else part.take_teacher()
        theirs = self.run_teacher(inputs) if theirs is None else theirs
        if part is not None and part.random is not None:
            part.random.restore()
        ours = model(inputs.student, inputs.layout)
        loss = torch.zeros((), device=self.args.device)
        for index, objective in enumerate(self.objectives):
            values = _values(objective, ours.compared[objective], theirs, inputs, part)
            total = values.sum()
            self.measure(f"loss_{objective.name}", total, len(values))
            for name, summed in objective.measures(total, inputs).items():
                self.measure(name, *summed)
            mean = total / max(len(values), 1) if step is None else step.mean(index, total)
            loss = loss + objective.weight * mean
        self.measure_outputs(ours, theirs, inputs)
        return (loss, ours) if return_outputs else loss


def _values(objective: Objective, ours: Any, theirs: EncoderOutput, batch: Batch, part: MicroBatch | None) -> Tensor:
    """The loss of each row or token of a batch. `part` has the references of the whole step, if there are any."""
    if part is None or objective not in part.references:
        return objective.values(ours, theirs, batch)
    embeddings = objective.embeddings(ours, batch)
    if objective in part.shares:
        return part.shares[objective].of(embeddings)
    return objective.compare(embeddings, part.references[objective])
