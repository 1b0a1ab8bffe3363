"""Cosine similarities among embeddings: do teacher and student agree on them, and has a space collapsed?"""

import math

import numpy as np
import torch
from scipy.stats import rankdata, spearmanr
from torch import Tensor
from torch.nn import functional as F

from ..report import Quality, Rows, bootstrapped

# Values that differ by less, relative to the largest, are equal up to the rounding of float64.
CONSTANT = 1e-12

AGREEMENT = "agreement with the teacher"
# A draw of all pairs of a thousand texts takes milliseconds.
_FEW_RESAMPLES = 200


def unit_vectors(embeddings: Tensor | np.ndarray, name: str = "embeddings") -> Tensor:
    """Scale embeddings to unit length, in float64, in which no setting of matrix products can round a rank away.

    Args:
        embeddings: `[rows, dim]`.
        name: what an error calls them.

    Returns:
        `[rows, dim]`, float64, on the same device.

    Raises:
        ValueError: not a matrix, a value that is not finite, or a row of zeros, which has no direction.
    """
    embeddings = torch.as_tensor(embeddings)
    if embeddings.dim() != 2 or not len(embeddings):
        raise ValueError(f"{name} must be a matrix [rows, dim] with at least one row, not {list(embeddings.shape)}.")
    embeddings = embeddings.double()
    norms = embeddings.norm(dim=1)
    if bad := [row for row, norm in enumerate(norms.tolist()) if not math.isfinite(norm) or norm == 0]:
        raise ValueError(
            f"{len(bad)} of {len(norms)} rows of {name} hold NaN, infinity or only zeros (the first: row {bad[0]}): "
            "their cosine similarity means nothing."
        )
    return F.normalize(embeddings, dim=1, eps=0)


def pair_cosines(first: Tensor | np.ndarray, second: Tensor | np.ndarray) -> np.ndarray:
    """Cosine similarity of row i of both sides, `[rows]` in float64. See `unit_vectors` for what is refused."""
    return (unit_vectors(first, "first") * unit_vectors(second, "second")).sum(1).cpu().numpy()


def similarity_agreement(teacher: Tensor | np.ndarray, student: Tensor | np.ndarray) -> float:
    """How far a student orders pairs of texts as its teacher does.

    Spearman's rank correlation between the cosine similarities of all pairs of different rows. Ranks, not values:
    what reads embeddings (search, clustering) reads the order of similarities, and a student that uses a narrower
    range of them is none the worse for it. Takes about `50 * rows**2` bytes: give a sample of some thousand rows.

    Args:
        teacher: `[rows, teacher_dim]`.
        student: `[rows, student_dim]`, of the same texts in the same order.

    Returns:
        A number in [-1, 1]; 1 if both order all pairs alike.

    Raises:
        ValueError: different numbers of rows, fewer than 3, or similarities that are all equal.
    """
    if len(teacher) != len(student) or len(teacher) < 3:
        raise ValueError(
            f"Agreement needs the same 3 or more texts on both sides, but teacher has {len(teacher)} rows and student "
            f"{len(student)}."
        )
    return rank_correlation(_pairwise_cosines(teacher, "teacher"), _pairwise_cosines(student, "student"))


def bootstrapped_agreement(teacher: Tensor | np.ndarray, student: Tensor | np.ndarray) -> Quality:
    """`similarity_agreement` with an interval over the texts: each draw has other texts, and all pairs of these.

    Ranks are those of all pairs, whatever is drawn, so that a draw costs no sorting; a text that is drawn twice is no
    pair with itself.
    """
    upper = np.triu_indices(len(teacher), k=1)
    ranks = np.zeros((2, len(teacher), len(teacher)))
    for side, (embeddings, name) in enumerate(((teacher, "teacher"), (student, "student"))):
        ranks[side][upper] = rankdata(_pairwise_cosines(embeddings, name))
    ranks[:, *upper] -= ranks[:, *upper].mean(1, keepdims=True)
    first, second = ranks
    sums = np.stack([first, second, first * first, second * second, first * second])

    def agreement(rows: Rows) -> dict[str, float]:
        times = np.bincount(rows(len(teacher)), minlength=len(teacher)).astype(np.float64)
        pairs = (times.sum() ** 2 - (times**2).sum()) / 2
        x, y, xx, yy, xy = sums @ times @ times / pairs
        return {AGREEMENT: (xy - x * y) / math.sqrt((xx - x * x) * (yy - y * y))}

    found = bootstrapped(agreement, _FEW_RESAMPLES)
    return Quality({AGREEMENT: similarity_agreement(teacher, student)}, found.intervals)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rho, ties at their mean rank.

    Raises:
        ValueError: one side is constant or holds NaN, so that its order means nothing. scipy would return NaN, which
            compares as worse than nothing and better than nothing at once.
    """
    for name, values in (("first", first), ("second", second)):
        if not np.isfinite(values).all():
            raise ValueError(f"The {name} values to correlate hold NaN or infinity.")
        if np.ptp(values) <= CONSTANT * np.abs(values).max():
            raise ValueError(f"The {name} values to correlate are all {values[0]:g}: a constant has no order.")
    return float(spearmanr(first, second).statistic)


def _pairwise_cosines(embeddings: Tensor | np.ndarray, name: str) -> np.ndarray:
    unit = unit_vectors(embeddings, name).cpu()
    first, second = torch.triu_indices(len(unit), len(unit), offset=1)
    return (unit @ unit.T)[first, second].numpy()
