"""How tree-like a set of points is: Gromov's delta, and the curvature of the hyperbolic space that would suit it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

# What Khrulkov et al. take for the relative delta of the Poincaré disc, 2 log(1 + √2) / 12.2. That delta is of thin
# triangles; by the four-point condition it is log 2 (Nica and Špakula 2016), which would make c 0.62 times as large.
DISC = 0.144
# A delta that is smaller, relative to the diameter, is 0 up to the rounding of float64.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Hyperbolicity:
    """Gromov's delta of a set of points, and what follows from it (Khrulkov et al. 2020, arXiv:1904.02239, section 4).

    Attributes:
        delta: half of what the four-point condition lacks at worst; 0 for a tree.
        diameter: the largest distance.
    """

    delta: float
    diameter: float

    @property
    def relative(self) -> float:
        """Twice delta, over the diameter: from 0, a tree, to 1."""
        return 2 * self.delta / self.diameter

    @property
    def curvature(self) -> float:
        """The c of the Poincaré ball whose relative delta is that of the points: (0.144 / relative)².

        Raises:
            ValueError: delta is 0, and no c would be large enough.
        """
        if self.relative <= ROUNDING:
            raise ValueError(
                f"Delta is {self.delta:g} at a diameter of {self.diameter:g}: the points lie as in a tree, for which "
                "no curvature is too strong. Sample more points, or set the curvature by hand."
            )
        return (DISC / self.relative) ** 2

    @classmethod
    def of(cls, distances: Tensor) -> Hyperbolicity:
        """Measure a set of points.

        Delta is the largest of min(A_xz, A_zy) - A_xy over all x, y and z, where A_xy = (d_xp + d_yp - d_xy) / 2 and
        the base point p is the first. Over all base points it would be as large at least, and twice as large at most.
        Takes time of the order points³ (some seconds for 1,500) and the memory of a few such matrices.

        Args:
            distances: `[points, points]`, symmetric, 0 on the diagonal.

        Raises:
            ValueError: not a square matrix, fewer than 4 points, a distance that is not finite, or no two points apart.
        """
        _check(distances)
        distances = distances.double()
        products = (distances[0] + distances[:, :1] - distances) / 2
        # One x at a time: at once, the (max, min) product would hold points³ numbers. A is symmetric, so y not before x
        # are enough, and the columns A_zy are rows.
        deltas = [(torch.minimum(of_x, products[x:]).amax(-1) - of_x[x:]).max() for x, of_x in enumerate(products)]
        return cls(torch.stack(deltas).max().item(), distances.max().item())

    @classmethod
    def mean(cls, found: Sequence[Hyperbolicity]) -> Hyperbolicity:
        """The mean delta at the mean diameter."""
        return cls(fmean(each.delta for each in found), fmean(each.diameter for each in found))


def sample_hyperbolicity(
    vectors: Tensor, generator: torch.Generator, *, samples: int = 1000, tries: int = 5
) -> list[Hyperbolicity]:
    """Measure random samples of vectors by their Euclidean distances, each from a base point of its own.

    Args:
        vectors: `[n, features]`.
        generator: decides on the samples.
        samples: vectors of a sample; all, in another order, if there are no more.
        tries: how many samples.

    Raises:
        ValueError: as `Hyperbolicity.of`.
    """
    found = []
    for _ in range(tries):
        chosen = vectors[torch.randperm(len(vectors), generator=generator)[:samples]].double()
        # Not by inner products, which would set points apart that are the same.
        distances = torch.cdist(chosen, chosen, compute_mode="donot_use_mm_for_euclid_dist")
        found.append(Hyperbolicity.of(distances))
    return found


def _check(distances: Tensor) -> None:
    if distances.dim() != 2 or distances.shape[0] != distances.shape[1]:
        raise ValueError(f"Distances must be a matrix [points, points], not {list(distances.shape)}.")
    if len(distances) < 4:
        raise ValueError(f"Delta is a property of four points and more, but there are {len(distances)}. Sample more.")
    if not distances.isfinite().all():
        raise ValueError(
            "Distances hold NaN or infinity. Look for such values in the vectors; a model in float16 may overflow: "
            "load it in float32."
        )
    if not distances.any():
        raise ValueError(
            f"All {len(distances)} points are the same, and have neither delta nor diameter. Take points that differ, "
            "such as another layer's."
        )
