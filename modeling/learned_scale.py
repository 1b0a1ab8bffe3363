"""The scale of a contrastive loss as a parameter."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST = 100.0


class LearnedScale(nn.Module):
    """Makes vectors as long as a learnt scale, 1/tau (Radford et al. 2021, CLIP, arXiv:2103.00020, section 2.5).

    Args:
        scale: at the start; above 0. It never exceeds `LARGEST`, as in CLIP, lest the loss become unstable.
    """

    def __init__(self, scale: float):
        super().__init__()
        # One number, but not a scalar, of which ZeRO-3 could not give each rank a share.
        self.log_scale = nn.Parameter(torch.tensor([math.log(scale)]))

    def forward(self, vectors: Tensor) -> Tensor:
        """`[rows, features]` -> the same directions, float32, each of length `scale`."""
        return F.normalize(vectors.float(), dim=-1) * self.log_scale.clamp(max=math.log(LARGEST)).exp()
