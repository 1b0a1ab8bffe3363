"""A tagger's words with their probabilities, row by row, to measure calibration on any rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .classification import expected_calibration_error
from .prediction import TagPrediction


@dataclass(frozen=True)
class ScoredWords:
    """The words that a tagger predicted.

    Attributes:
        probabilities: for each row, the probabilities of the predicted tags, `[words]`.
        correct: for each row, whether the predicted tags are the gold tags, `[words]`.
    """

    probabilities: Sequence[np.ndarray]
    correct: Sequence[np.ndarray]

    @classmethod
    def of(cls, gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[TagPrediction]]) -> ScoredWords:
        """Compare the predicted tags of each row with its gold tags."""
        probabilities = [np.array([word.probability for word in words]) for words in predicted]
        pairs = zip(predicted, gold, strict=True)
        correct = [np.array([w.tag == tag for w, tag in zip(words, tags, strict=True)], bool) for words, tags in pairs]
        return cls(probabilities, correct)

    def calibration_error(self, rows: Iterable[int]) -> float:
        """The expected calibration error of the words of some rows. A row counts each time it is listed."""
        rows = list(rows)
        both = (np.concatenate([each[row] for row in rows]) for each in (self.probabilities, self.correct))
        return expected_calibration_error(*both)
