"""GradCache (Gao et al. 2021, arXiv:2101.06983): losses on the embeddings of all micro-batches and ranks of a step.

First all micro-batches are embedded without gradients. The loss of the whole step then gives a gradient for each
embedding. Finally each micro-batch is embedded again, and these gradients are backpropagated through it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor


@dataclass(frozen=True)
class Share:
    """A micro-batch's share of a step's loss.

    Attributes:
        values: `[rows]`, the loss of its rows.
        gradient: gradient of the sum over all rows of the step with respect to this micro-batch's embeddings, in their
            shape.
    """

    values: Tensor
    gradient: Tensor

    def of(self, embeddings: Tensor) -> Tensor:
        """`[rows]`, the values, with the gradient of the whole step with respect to these embeddings."""
        linear = (embeddings * self.gradient).sum() / len(self.values)
        return self.values + linear - linear.detach()


class RandomState:
    """The states of torch's random generators, on the CPU and on a device, when this object is created."""

    def __init__(self, device: torch.device):
        self._generators = [torch] if device.type == "cpu" else [torch, torch.get_device_module(device)]
        self._states = [generator.get_rng_state() for generator in self._generators]

    def restore(self) -> None:
        """Reset the generators to these states."""
        for generator, state in zip(self._generators, self._states, strict=True):
            generator.set_rng_state(state)


def shares(embeddings: Sequence[Tensor], loss: Callable[[Tensor], Tensor], accelerator: Accelerator) -> list[Share]:
    """Each micro-batch's share of one loss.

    Args:
        embeddings: `[rows, ...]` of each micro-batch of this rank, float32, without gradients. All ranks must have the
            same number of rows.
        loss: computes the loss of each row from the embeddings of all ranks in their order, `[all rows, ...]`.
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
