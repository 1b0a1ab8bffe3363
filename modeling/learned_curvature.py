"""The curvature of a hyperbolic space as a parameter."""

from __future__ import annotations

import math

import torch
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
