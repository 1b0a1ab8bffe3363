"""Averages of an encoder's layers whose weights are parameters (Peters et al. 2018, arXiv:1802.05365, eq. 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LayerWeights(nn.Module):
    """Weights of layers: above 0, 1 in sum, and equal at the start.

    Args:
        layers: how many.
    """

    def __init__(self, layers: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(layers))

    def forward(self, states: Tensor) -> Tensor:
        """`[layers]`, float32, whatever the states: heads are called on what the student makes."""
        return self.logits.float().softmax(0)


class LayerMix(nn.Module):
    """Averages the states of all layers, and maps them into another width.

    Args:
        layers: how many.
        size: of the states.
        out_size: of what they are compared with; no map if it is the same.
    """

    def __init__(self, layers: int, size: int, out_size: int):
        super().__init__()
        self.weights = LayerWeights(layers)
        self.projector = nn.Identity() if size == out_size else nn.Linear(size, out_size)

    def forward(self, states: Tensor) -> Tensor:
        """`[tokens, layers, size]` -> `[tokens, out_size]`."""
        return self.projector(torch.einsum("tlh,l->th", states, self.weights(states).to(states.dtype)))
