"""Cosine similarities of embeddings, and the agreement of teacher and student on them."""

import math

import numpy as np
import torch
from scipy.stats import rankdata, spearmanr
from torch import Tensor
from transformers.utils import logging

from ..report import Quality, Rows, bootstrapped

logger = logging.get_logger(__name__)

# Values that differ by less, relative to the largest, are equal up to the rounding of float64.
CONSTANT = 1e-12

AGREEMENT = "agreement with the teacher"
# A draw of all pairs of a thousand texts takes milliseconds.
_FEW_RESAMPLES = 200


def unit_vectors(embeddings: Tensor | np.ndarray, name: str = "embeddings") -> Tensor:
    """Scale embeddings to unit length in float64, so that reduced-precision matrix products can't change ranks.

    A zero vector, such as a static student's of a text of unknown tokens only, stays zero. So its cosine similarity
    with any vector is 0, as in sentence-transformers. A warning gives the number of such vectors.

    Args:
        embeddings: `[rows, dim]`.
        name: their name in error messages.

    Returns:
        `[rows, dim]`, float64, on the same device.

    Raises:
        ValueError: `embeddings` is not a matrix, or a value is not finite.
    """
    embeddings = torch.as_tensor(embeddings)
    if embeddings.dim() != 2 or not len(embeddings):
        raise ValueError(f"{name} must be a matrix [rows, dim] with at least one row, not {list(embeddings.shape)}.")
    embeddings = embeddings.double()
    norms = embeddings.norm(dim=1)
    if bad := (~norms.isfinite()).nonzero().flatten().tolist():
        raise ValueError(
            f"{len(bad)} of {len(norms)} rows of {name} contain NaN or infinity (first: row {bad[0]}), so their cosine "
            "similarity is undefined."
        )
    if empty := (norms == 0).nonzero().flatten().tolist():
        logger.warning_once(
            "%d of %d rows of %s contain only zeros (first: row %d). Their cosine similarity counts as 0.",
            *(len(empty), len(norms), name, empty[0]),
        )
    return embeddings / torch.where(norms == 0, 1, norms)[:, None]


def pair_cosines(first: Tensor | np.ndarray, second: Tensor | np.ndarray) -> np.ndarray:
    """Cosine similarity of row i of both sides, `[rows]` in float64. See `unit_vectors` for what is refused.

    It is rounded to 12 decimals, so that equal cosines of binary vectors are equal, and get the same rank.
    """
    cosines = (unit_vectors(first, "first") * unit_vectors(second, "second")).sum(1)
    return cosines.round(decimals=12).cpu().numpy()


def similarity_agreement(teacher: Tensor | np.ndarray, student: Tensor | np.ndarray) -> float:
    """Agreement of student and teacher on the order of similarities between texts.

    It is Spearman's rank correlation between the cosine similarities of all pairs of different rows. Ranks are compared
    because search and clustering depend only on the order of similarities, not on their range. Takes about
    `50 * rows**2` bytes, so pass a sample of a few thousand rows.

    Args:
        teacher: `[rows, teacher_dim]`.
        student: `[rows, student_dim]`, of the same texts in the same order.

    Returns:
        A number in [-1, 1]; 1 if both have the same order.

    Raises:
        ValueError: the numbers of rows differ or are below 3, or all similarities are equal.
    """
    if len(teacher) != len(student) or len(teacher) < 3:
        raise ValueError(
            f"Agreement needs the same 3 or more texts on both sides, but the teacher has {len(teacher)} rows and the "
            f"student {len(student)}."
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
    """Spearman's rho; ties get their mean rank.

    Raises:
        ValueError: one side is constant or contains NaN or infinity. scipy would return NaN, which breaks comparisons
            of scores.
    """
    for name, values in (("first", first), ("second", second)):
        if not np.isfinite(values).all():
            raise ValueError(f"The {name} values to correlate contain NaN or infinity.")
        if np.ptp(values) <= CONSTANT * np.abs(values).max():
            raise ValueError(f"The {name} values to correlate are all {values[0]:g}: a constant has no order.")
    return float(spearmanr(first, second).statistic)


def _pairwise_cosines(embeddings: Tensor | np.ndarray, name: str) -> np.ndarray:
    unit = unit_vectors(embeddings, name).cpu()
    first, second = torch.triu_indices(len(unit), len(unit), offset=1)
    return (unit @ unit.T)[first, second].numpy()
