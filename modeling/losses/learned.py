"""The scale of a contrastive loss and the curvature of a hyperbolic space, as parameters."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# exp of these: where float32 still tells points of the ball apart.
_LIMITS = math.log(1e-4), math.log(1e2)


class LearnedCurvature(nn.Module):
    """c of the Poincaré ball of curvature -c (see `hyperbolic`), above 0 whatever is learnt.

    Args:
        curvature: at the start; from 1e-4 to 100, which it never leaves.
    """

    def __init__(self, curvature: float):
        super().__init__()
        # One number, but not a scalar, of which ZeRO could not give each rank a share.
        self.log_curvature = nn.Parameter(torch.tensor([math.log(curvature)]))

    def forward(self, states: Tensor) -> Tensor:
        """`[1]`, float32, whatever the states; it takes them because heads are called on what the student makes."""
        return self.log_curvature.float().clamp(*_LIMITS).exp()


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
