"""Scores with intervals that show the variation between test sets of the same kind."""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

# Number of rows -> indices of the rows to score: all in order, or a sample of the same size with replacement.
Rows = Callable[[int], np.ndarray]

RESAMPLES, LEVEL, _SEED = 1000, 0.95, 0


@dataclass(frozen=True)
class Quality:
    """Scores of a model.

    Attributes:
        scores: printed name of a metric -> value; the most important first.
        intervals: name of a metric -> low and high end of its 95 % interval; may lack some metrics.
    """

    scores: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __or__(self, other: "Quality") -> "Quality":
        """Both, in this order."""
        return Quality({**self.scores, **other.scores}, {**self.intervals, **other.intervals})


def bootstrapped(score: Callable[[Rows], Mapping[str, float]], resamples: int = RESAMPLES) -> Quality:
    """Scores and their 95 % intervals by the percentile bootstrap over test rows (Efron 1979).

    All models get the same resamples of the same rows. Resamples without a score, such as a correlation of constant
    values, are left out. A metric has no interval if no resample has a score.

    Args:
        score: computes name -> score. Its argument is a function that returns the indices of the rows to score for a
            number of rows. It must be called once for each test set. The first call to `score` gets all rows, the
            others `resamples` samples with replacement.
        resamples: number of resamples.
    """
    scores, generator = score(np.arange), np.random.default_rng(_SEED)
    drawn: dict[str, list[float]] = {name: [] for name in scores}
    for _ in range(resamples):
        with suppress(ValueError):
            for name, value in score(lambda rows: generator.integers(rows, size=rows)).items():
                if name in drawn and math.isfinite(value):
                    drawn[name].append(value)
    ends = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    intervals = {name: tuple(np.quantile(values, ends).tolist()) for name, values in drawn.items() if values}
    return Quality(scores, intervals)
