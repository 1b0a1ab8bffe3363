"""The Poincaré ball: hyperbolic space of curvature -c with radius 1/√c (Ganea et al. 2018, arXiv:1805.09112).

The curvature c is a number above 0, or a tensor with one such number, which may be learnt. Results are float32, or
float64 for float64 inputs.
"""

import torch
from torch import Tensor

from ..encoding import exact_dtype
from .bounded import BoundedNumber

# Points keep this share of the radius away from the border, where float32 can't distinguish them. The error of
# 1 - c|x|² is then at most 0.003 %.
MARGIN = 1e-3

# Replaces lengths of 0, and squared lengths that are 0 or less because of rounding.
SHORTEST = 1e-15


def exponential_map(x: Tensor, curvature: float | Tensor) -> Tensor:
    """Exponential map at the origin, tanh(√c|x|) x / (√c|x|), of tangent vectors `[n, features]` (lemma 2).

    The point's distance from the origin is 2|x|. Vectors longer than 3.8/√c would come too close to the border, so they
    are mapped to the radius (1 - `MARGIN`)/√c. Only their direction counts, and only their direction has a gradient.
    """
    x = x.to(exact_dtype(x))
    length = curvature**0.5 * x.norm(dim=-1, keepdim=True).clamp_min(SHORTEST)
    return length.tanh().clamp_max(1 - MARGIN) / length * x


def poincare_distance(x: Tensor, y: Tensor, curvature: float | Tensor) -> Tensor:
    """Distances `[n]` of corresponding points `[n, features]` (Nickel and Kiela 2017, arXiv:1705.08039, eq. 1).

    A distance is arcosh(1 + 2c|x - y|² / ((1 - c|x|²)(1 - c|y|²))) / √c, which is about 2|x - y| for small c. Its
    gradient is 0 where the distance is 0.
    """
    x, y = x.to(exact_dtype(x)), y.to(exact_dtype(y))
    return _hyperbolic_distances(
        (x - y).norm(dim=-1), _boundary_term(x, curvature), _boundary_term(y, curvature), curvature
    )


def poincare_distances(x: Tensor, y: Tensor, curvature: float | Tensor) -> Tensor:
    """Distances `[n, m]` of all pairs of points `[n, features]` and `[m, features]`."""
    x, y = x.to(exact_dtype(x)), y.to(exact_dtype(y))
    return _hyperbolic_distances(
        _euclidean_distances(x, y), _boundary_term(x, curvature)[:, None], _boundary_term(y, curvature), curvature
    )


def _boundary_term(points: Tensor, curvature: float | Tensor) -> Tensor:
    """1 - c|x|², `[n]`, which approaches 0 at the border."""
    return 1 - curvature * points.square().sum(-1)


def _euclidean_distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances, `[n, m]`, by inner products in float64.

    Near the border, float32's error of a small distance would become 0.4 and more in hyperbolic distance. torch.cdist
    without inner products is several times slower, and its gradient on a GPU needs `[n, m, features]`.
    """
    first, second = x.double(), y.double()
    squares = first.square().sum(-1)[:, None] + second.square().sum(-1) - 2 * first @ second.T
    return squares.clamp_min(SHORTEST**2).sqrt().to(x.dtype)


def _hyperbolic_distances(distances: Tensor, x_term: Tensor, y_term: Tensor, curvature: float | Tensor) -> Tensor:
    """Convert Euclidean distances to hyperbolic ones.

    arcosh(1 + 2z²) is computed as 2 arsinh(z), which is exact for small distances and has a finite gradient at 0.
    """
    root = curvature**0.5
    return 2 / root * torch.asinh(root * distances / (x_term * y_term).sqrt())


class LearnedCurvature(BoundedNumber):
    """The learnt curvature c of the Poincaré ball, within the range in which float32 distinguishes its points."""

    bounds = 1e-4, 1e2

    def forward(self) -> Tensor:
        """`[1]`, float32."""
        return self.value
