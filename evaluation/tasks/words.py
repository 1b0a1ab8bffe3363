"""The words that a tagger has judged, row by row, so that their calibration can be told of any rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .classification import expected_calibration_error
from .prediction import TagPrediction


@dataclass(frozen=True)
class ScoredWords:
    """A tagger's words.

    Attributes:
        probabilities: for each row, `[words]`, of the tags that were predicted.
        correct: for each row, `[words]`, whether they are the gold ones.
    """

    probabilities: Sequence[np.ndarray]
    correct: Sequence[np.ndarray]

    @classmethod
    def of(cls, gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[TagPrediction]]) -> ScoredWords:
        """Compare each row's gold tags with what was predicted."""
        probabilities = [np.array([word.probability for word in words]) for words in predicted]
        pairs = zip(predicted, gold, strict=True)
        correct = [np.array([w.tag == tag for w, tag in zip(words, tags, strict=True)], bool) for words, tags in pairs]
        return cls(probabilities, correct)

    def calibration_error(self, rows: Iterable[int]) -> float:
        """The expected calibration error of the words of some rows, each as often as it is named."""
        rows = list(rows)
        both = (np.concatenate([each[row] for row in rows]) for each in (self.probabilities, self.correct))
        return expected_calibration_error(*both).error
