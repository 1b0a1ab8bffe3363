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
    """The micro-batches of one optimizer step on this rank, and what they share with those of the other ranks.

    `transformers.Trainer` hands it from `get_batch_samples` to `compute_loss` as `num_items_in_batch`.

    Attributes:
        batches: the micro-batches.
        counts: `[objectives]`, how many values each objective has over all micro-batches and ranks.
        ranks: how many there are.
        meeting: what rows of different micro-batches and ranks are compared by; None where no objective does that.
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
        """What a micro-batch adds to an objective's mean over the step; `total` is the sum of its values.

        Times the number of ranks, because DDP and ZeRO divide gradients by it.
        """
        return total * self.ranks / self.counts[objective].clamp_min(1)


@dataclass(eq=False)
class Meeting:
    """What the rows of a step are compared by, whatever micro-batches and ranks they come from.

    Attributes:
        everywhere: of each objective that compares them, the references of all rows of the step, on all ranks.
        micro_batches: what belongs to each micro-batch.
    """

    everywhere: Mapping[WholeStepObjective, Any]
    micro_batches: Sequence[MicroBatch]


@dataclass(eq=False)
class MicroBatch:
    """A micro-batch's part of a `Meeting`.

    Attributes:
        teacher: the teacher's outputs; None once they are read, so that they take no memory.
        references: of each objective that compares the step's rows, what those of this micro-batch are compared by.
        shares: its share of each such objective in which the student's own embeddings meet.
        random: the generators' states before it was embedded for that: dropout must fall as it fell then.
    """

    teacher: EncoderOutput | None
    references: Mapping[WholeStepObjective, Any]
    shares: dict[WholeStepObjective, Share] = field(default_factory=dict)
    random: RandomState | None = None

    def take_teacher(self) -> EncoderOutput | None:
        """The teacher's outputs, which are held no longer."""
        output, self.teacher = self.teacher, None
        return output
