"""An optimizer step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ...collators import Batch
from ...modeling.encoding import EncoderOutput
from ..objectives import Objective
from .gradient_cache import Share
from .means import on_device


@dataclass(eq=False)
class Step:
    """The micro-batches of one optimizer step on this rank, and what they share with those of the other ranks.

    `transformers.Trainer` hands it from `get_batch_samples` to `compute_loss` as `num_items_in_batch`.

    Attributes:
        batches: the micro-batches.
        counts: `[objectives]`, how many values each objective has over all micro-batches and ranks.
        ranks: how many there are.
        meeting: what rows of different micro-batches and ranks are compared by; None where they don't meet.
    """

    batches: Sequence[Batch]
    counts: Tensor
    ranks: int = 1
    meeting: Meeting | None = None

    @classmethod
    def of(cls, batches: Sequence[Batch], objectives: Sequence[Objective], accelerator: Accelerator) -> Step:
        """The step of some micro-batches; all ranks must come here."""
        device, ranks = accelerator.device, accelerator.num_processes
        counts = torch.zeros(len(objectives), device=device)
        for batch in batches:
            counts += torch.stack([on_device(objective.count(batch), device) for objective in objectives])
        return cls(batches, accelerator.reduce(counts, reduction="sum") if ranks > 1 else counts, ranks)

    def mean(self, objective: int, total: Tensor) -> Tensor:
        """A micro-batch's part of an objective's mean over the step, of the sum of its values.

        DDP and ZeRO average gradients over the ranks, but this is a rank's part of one sum.
        """
        return total * self.ranks / self.counts[objective].clamp_min(1)


@dataclass(eq=False)
class Meeting:
    """What the rows of a step are compared by, whatever micro-batches and ranks they come from.

    Attributes:
        teacher: the teacher's outputs for each micro-batch; None once they are read, so that they take no memory.
        references: of each micro-batch, what its rows are compared by, with those of the whole step where they are.
        everywhere: the references of all rows of the step, on all ranks.
        shares: each micro-batch's share of the loss, where the student's own embeddings meet.
    """

    teacher: list[EncoderOutput | None]
    references: Sequence[Any]
    everywhere: Any
    shares: Sequence[Share] = field(default_factory=tuple)

    def take_teacher(self, micro_batch: int) -> EncoderOutput:
        """The teacher's outputs for a micro-batch, which are held no longer."""
        output, self.teacher[micro_batch] = self.teacher[micro_batch], None
        return output
