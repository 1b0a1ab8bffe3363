"""Gromov's delta of a set of points, which measures how tree-like they are, and the matching hyperbolic curvature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

# The relative delta of the Poincaré disc in Khrulkov et al., 2 log(1 + √2) / 12.2. This delta is defined by thin
# triangles. Defined by the four-point condition it is log 2 (Nica and Špakula 2016), which would give 0.62 times the c.
DISC = 0.144
# A smaller delta, relative to the diameter, is 0 up to rounding in float64.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Hyperbolicity:
    """Gromov's delta of a set of points and derived values (Khrulkov et al. 2020, arXiv:1904.02239, section 4).

    Attributes:
        delta: half of the largest violation of the four-point condition; 0 for a tree.
        diameter: the largest distance.
    """

    delta: float
    diameter: float

    @property
    def relative(self) -> float:
        """2 * delta / diameter, from 0 (a tree) to 1."""
        return 2 * self.delta / self.diameter

    @property
    def curvature(self) -> float:
        """The c of the Poincaré ball with the same relative delta, (0.144 / relative)².

        Raises:
            ValueError: delta is 0, so c would be infinite.
        """
        if self.relative <= ROUNDING:
            raise ValueError(
                f"Delta is {self.delta:g} at a diameter of {self.diameter:g}: the points form a tree, so the curvature "
                "would be infinite. Sample more points, or set the curvature yourself."
            )
        return (DISC / self.relative) ** 2

    @classmethod
    def of(cls, distances: Tensor) -> Hyperbolicity:
        """Measure a set of points.

        Delta is the maximum of min(A_xz, A_zy) - A_xy over all x, y and z, where A_xy = (d_xp + d_yp - d_xy) / 2 and
        the base point p is the first point. The maximum over all base points would be 1 to 2 times as large. Takes
        O(points³) time (some seconds for 1,500 points) and the memory of a few matrices of this size.

        Args:
            distances: `[points, points]`, symmetric, 0 on the diagonal.

        Raises:
            ValueError: the matrix is not square, there are fewer than 4 points, a distance is not finite, or all points
                are equal.
        """
        _check(distances)
        distances = distances.double()
        products = (distances[0] + distances[:, :1] - distances) / 2
        # One x at a time, since the whole (max, min) product would hold points³ numbers. A is symmetric, so y >= x is
        # enough, and the columns A_zy are rows.
        deltas = [(torch.minimum(of_x, products[x:]).amax(-1) - of_x[x:]).max() for x, of_x in enumerate(products)]
        return cls(torch.stack(deltas).max().item(), distances.max().item())

    @classmethod
    def mean(cls, found: Sequence[Hyperbolicity]) -> Hyperbolicity:
        """The mean delta at the mean diameter."""
        return cls(fmean(each.delta for each in found), fmean(each.diameter for each in found))


def sample_hyperbolicity(
    vectors: Tensor, generator: torch.Generator, *, samples: int = 1000, tries: int = 5
) -> list[Hyperbolicity]:
    """Measure random samples of vectors by their Euclidean distances, each with another base point.

    Args:
        vectors: `[n, features]`.
        generator: random generator for the samples.
        samples: number of vectors in a sample; all, in random order, if there are fewer.
        tries: number of samples.

    Raises:
        ValueError: as `Hyperbolicity.of`.
    """
    found = []
    for _ in range(tries):
        chosen = vectors[torch.randperm(len(vectors), generator=generator)[:samples]].double()
        # Not by inner products, by which equal points would have distances above 0.
        distances = torch.cdist(chosen, chosen, compute_mode="donot_use_mm_for_euclid_dist")
        found.append(Hyperbolicity.of(distances))
    return found


def _check(distances: Tensor) -> None:
    if distances.dim() != 2 or distances.shape[0] != distances.shape[1]:
        raise ValueError(f"Distances must be a matrix [points, points], not {list(distances.shape)}.")
    if len(distances) < 4:
        raise ValueError(f"Delta needs at least four points, but there are {len(distances)}. Sample more.")
    if not distances.isfinite().all():
        raise ValueError(
            "Distances contain NaN or infinity. Look for such values in the vectors. A model in float16 may overflow: "
            "load it in float32."
        )
    if not distances.any():
        raise ValueError(
            f"All {len(distances)} points are equal, so delta and diameter are 0. Use other vectors, such as those of "
            "another layer."
        )
