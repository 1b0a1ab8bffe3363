"""An optimizer step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ...collators import Batch
from ...modeling.encoding import EncoderOutput
from ..objectives import Objective, WholeStepObjective
from .gradient_cache import RandomState, Share
from .means import on_device


@dataclass(eq=False)
class Step:
    """The micro-batches of one optimizer step on this rank, with counts and references of all ranks.

    `transformers.Trainer` passes it from `get_batch_samples` to `compute_loss` as `num_items_in_batch`.

    Attributes:
        batches: the micro-batches.
        counts: `[objectives]`, the number of values of each objective over all micro-batches and ranks.
        ranks: number of ranks.
        everywhere: objective -> references of all rows of the step, on all ranks, for objectives that compare them.
        micro_batches: what each micro-batch of this rank is compared with; empty if no objective compares rows of the
            whole step.
    """

    batches: Sequence[Batch]
    counts: Tensor
    ranks: int = 1
    everywhere: Mapping[WholeStepObjective, Any] = field(default_factory=dict)
    micro_batches: Sequence[MicroBatch] = ()

    @classmethod
    def of(cls, batches: Sequence[Batch], objectives: Sequence[Objective], accelerator: Accelerator) -> Step:
        """The step with these micro-batches. All ranks must call it."""
        device, ranks = accelerator.device, accelerator.num_processes
        counts = torch.zeros(len(objectives), device=device)
        for batch in batches:
            counts += torch.stack([on_device(objective.count(batch), device) for objective in objectives])
        return cls(batches, accelerator.reduce(counts, reduction="sum") if ranks > 1 else counts, ranks)

    def mean(self, objective: int, total: Tensor) -> Tensor:
        """A micro-batch's contribution to an objective's mean over the step; `total` is the sum of its values.

        It is multiplied by the number of ranks, because DDP and ZeRO divide gradients by it.
        """
        return total * self.ranks / self.counts[objective].clamp_min(1)


@dataclass(eq=False)
class MicroBatch:
    """A micro-batch of a `Step` whose rows are compared with those of the whole step.

    Attributes:
        teacher: the teacher's outputs; None after they were used, to free memory.
        references: objective -> references of the rows of this micro-batch (see `WholeStepObjective.compared_with`).
        shares: objective -> share of its loss, for objectives that compare the student's embeddings with one another.
        random: random states before the micro-batch was embedded for the shares, to repeat its dropout.
    """

    teacher: EncoderOutput | None
    references: Mapping[WholeStepObjective, Any]
    shares: dict[WholeStepObjective, Share] = field(default_factory=dict)
    random: RandomState | None = None

    def take_teacher(self) -> EncoderOutput | None:
        """Return the teacher's outputs, and drop the reference to them."""
        output, self.teacher = self.teacher, None
        return output
