"""The Poincaré ball: hyperbolic space of curvature -c, within the radius 1/√c (Ganea et al. 2018, arXiv:1805.09112).

The curvature c is a number above 0, or a tensor of one such number, which may be learnt. All is computed in float32, or
in float64 where that comes in.
"""

import torch
from torch import Tensor

from ..encoding import exact_dtype
from .bounded import BoundedNumber

# Share of the radius that is left free at the border, where float32 can't tell points apart: enough for 1 - c|x|² to
# have an error of 0.003 % at most.
MARGIN = 1e-3

# Stands in for lengths of 0, and for squares of lengths that rounding makes 0 or less.
SHORTEST = 1e-15


def exponential_map(x: Tensor, curvature: float | Tensor) -> Tensor:
    """tanh(√c|x|) x / (√c|x|): vectors `[n, features]` from the origin to the points where they end (lemma 2).

    The point lies 2|x| from the origin. Vectors longer than 3.8/√c would come too close to the border: all arrive at
    the radius (1 - `MARGIN`)/√c, so that only their direction counts and only their direction has a gradient.
    """
    x = x.to(exact_dtype(x))
    length = curvature**0.5 * x.norm(dim=-1, keepdim=True).clamp_min(SHORTEST)
    return length.tanh().clamp_max(1 - MARGIN) / length * x


def poincare_distance(x: Tensor, y: Tensor, curvature: float | Tensor) -> Tensor:
    """Distances of corresponding points of two sets (Nickel and Kiela 2017, arXiv:1705.08039, eq. 1).

    A distance is arcosh(1 + 2c|x - y|² / ((1 - c|x|²)(1 - c|y|²))) / √c, for small c about 2|x - y|. Points
    `[n, features]` give distances `[n]`, whose gradient is 0 where the distance is.
    """
    x, y = x.to(exact_dtype(x)), y.to(exact_dtype(y))
    return _stretched((x - y).norm(dim=-1), _room(x, curvature), _room(y, curvature), curvature)


def poincare_distances(x: Tensor, y: Tensor, curvature: float | Tensor) -> Tensor:
    """Distance of each point of one set, `[n, features]`, from each of another, `[m, features]`: `[n, m]`."""
    x, y = x.to(exact_dtype(x)), y.to(exact_dtype(y))
    return _stretched(_gaps(x, y), _room(x, curvature)[:, None], _room(y, curvature), curvature)


def _room(points: Tensor, curvature: float | Tensor) -> Tensor:
    """1 - c|x|², of which there is less the nearer the border is: `[n]`."""
    return 1 - curvature * points.square().sum(-1)


def _gaps(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances, `[n, m]`, by inner products.

    In float64: near the border, what float32 loses of a small distance would become 0.4 and more of a hyperbolic one.
    torch.cdist without inner products is several times slower, and on a GPU its gradient makes `[n, m, features]`.
    """
    first, second = x.double(), y.double()
    squares = first.square().sum(-1)[:, None] + second.square().sum(-1) - 2 * first @ second.T
    return squares.clamp_min(SHORTEST**2).sqrt().to(x.dtype)


def _stretched(gaps: Tensor, room: Tensor, other_room: Tensor, curvature: float | Tensor) -> Tensor:
    """Euclidean distances as hyperbolic ones.

    arcosh(1 + 2z²) is 2 arsinh(z), which neither loses small distances to the 1 nor has an infinite gradient at 0.
    """
    root = curvature**0.5
    return 2 / root * torch.asinh(root * gaps / (room * other_room).sqrt())


class LearnedCurvature(BoundedNumber):
    """c of the Poincaré ball of curvature -c, within the curvatures with which float32 tells points of it apart."""

    bounds = 1e-4, 1e2

    def forward(self) -> Tensor:
        """`[1]`, float32."""
        return self.value
