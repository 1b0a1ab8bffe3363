"""Scores with intervals that say how far another test set of the same kind may lead elsewhere."""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

# Which rows to score, given how many there are: all in their order, or as many drawn with replacement.
Rows = Callable[[int], np.ndarray]

RESAMPLES, LEVEL, _SEED = 1000, 0.95, 0


@dataclass(frozen=True)
class Quality:
    """What a model is worth.

    Attributes:
        scores: name of a metric, as it is to be printed -> value; the most important first.
        intervals: name of a metric -> low and high end of its 95 % interval; of some of them.
    """

    scores: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __or__(self, other: "Quality") -> "Quality":
        """Both, in this order."""
        return Quality({**self.scores, **other.scores}, {**self.intervals, **other.intervals})


def bootstrapped(score: Callable[[Rows], Mapping[str, float]], resamples: int = RESAMPLES) -> Quality:
    """Scores and their 95 % intervals by the percentile bootstrap (Efron 1979), which draws test rows anew.

    All models that are scored on the same rows get the same draws. A draw that has no score, such as a correlation of
    constant values, is left out; so is an interval of which all draws are.

    Args:
        score: names scores of rows. It is given a function from the number of rows to the indices of those to be
            scored, which it calls once for each test set: all of them first, then `resamples` draws with replacement.
        resamples: number of draws.
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
