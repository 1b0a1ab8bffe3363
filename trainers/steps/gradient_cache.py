"""Losses on all embeddings of an optimizer step, whatever micro-batches and ranks they come from.

Where an embedding is compared with others, micro-batches can't be trained on one after another as if they were alone.
So all are embedded without gradients first; the loss of the whole step gives a gradient for each embedding; and each
micro-batch, embedded once more, is trained by its share of that (Gao et al. 2021, GradCache, arXiv:2101.06983).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor


@dataclass(frozen=True)
class Share:
    """A micro-batch's part of a step's loss.

    Attributes:
        values: `[rows]`, the loss of its own rows.
        gradient: of the sum over the whole step's rows, by this micro-batch's embeddings; of their shape.
    """

    values: Tensor
    gradient: Tensor

    def of(self, embeddings: Tensor) -> Tensor:
        """`[rows]`, the values, with the gradient of the whole step by these embeddings."""
        linear = (embeddings * self.gradient).sum() / len(self.values)
        return self.values + linear - linear.detach()


class RandomState:
    """The state of torch's generators, on the CPU and on a device, as they are when this is made."""

    def __init__(self, device: torch.device):
        self._generators = [torch] if device.type == "cpu" else [torch, torch.get_device_module(device)]
        self._states = [generator.get_rng_state() for generator in self._generators]

    def restore(self) -> None:
        """Let the generators go on from here again."""
        for generator, state in zip(self._generators, self._states, strict=True):
            generator.set_rng_state(state)


def shares(embeddings: Sequence[Tensor], loss: Callable[[Tensor], Tensor], accelerator: Accelerator) -> list[Share]:
    """Each micro-batch's share of one loss.

    Args:
        embeddings: of each micro-batch of a step on this rank, `[rows, ...]`, float32, without gradients; all ranks
            have as many rows.
        loss: from the embeddings of all ranks, in their order, `[all rows, ...]`, to the loss of each row.
    """
    sizes = [len(each) for each in embeddings]
    own = torch.cat(list(embeddings)).requires_grad_()
    everywhere = list(accelerator.gather(own.detach()).split(len(own)))
    everywhere[accelerator.process_index] = own
    with torch.enable_grad():
        values = loss(torch.cat(everywhere))
    (gradient,) = torch.autograd.grad(values.sum(), own)
    own_values = values.detach().split(len(own))[accelerator.process_index]
    return [Share(*parts) for parts in zip(own_values.split(sizes), gradient.split(sizes), strict=True)]
