"""Is a model right as often as it says?"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class CalibrationBin:
    """Predictions whose confidence lies in (low, high]; what a reliability diagram draws as one bar.

    Attributes:
        low, high: the bin's ends.
        count: its predictions.
        confidence: their mean confidence; None if there are none.
        accuracy: the share of them that is correct; None if there are none.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error, in [0, 1], and the bins that it is a mean over."""

    error: float
    bins: tuple[CalibrationBin, ...]


def expected_calibration_error(confidences: Sequence[float], correct: Sequence[bool], *, bins: int = 15) -> Calibration:
    """How far confidence is from accuracy: the mean over bins of their distance, weighted by the bins' counts.

    Guo et al. 2017, arXiv:1706.04599, equation 3, with bins of equal width; 15 are theirs.

    Args:
        confidences: probability of each predicted class, in [0, 1].
        correct: whether that class is the gold one.
        bins: into which [0, 1] is cut; 0 itself falls into the first.

    Raises:
        ValueError: no predictions, lengths that differ, or a confidence outside [0, 1], such as a logit or None.
    """
    if not len(confidences) or len(confidences) != len(correct):
        raise ValueError(
            "Calibration takes as many confidences as marks of correctness, and at least one, but got "
            f"{len(confidences)} and {len(correct)}."
        )
    sure, right = np.asarray(confidences, dtype=np.float64), np.asarray(correct, dtype=bool)
    if (outside := np.flatnonzero(~((sure >= 0) & (sure <= 1)))).size:
        raise ValueError(
            f"Confidences are probabilities in [0, 1], but number {outside[0]} is {confidences[outside[0]]}. Leave out "
            "words without a probability, and put logits through a softmax."
        )
    edges = np.linspace(0, 1, bins + 1)
    places = np.searchsorted(edges[1:-1], sure)
    filled = tuple(
        _bin(low, high, sure[places == place], right[places == place])
        for place, (low, high) in enumerate(pairwise(edges.tolist()))
    )
    distances = [b.count * abs(b.accuracy - b.confidence) for b in filled if b.count]
    return Calibration(sum(distances) / len(sure), filled)


def _bin(low: float, high: float, sure: np.ndarray, right: np.ndarray) -> CalibrationBin:
    means = (float(sure.mean()), float(right.mean())) if len(sure) else (None, None)
    return CalibrationBin(low, high, len(sure), *means)
