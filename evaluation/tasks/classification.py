"""Scores of classifiers and regressors, and calibration of classifiers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

import numpy as np
from scipy.stats import pearsonr

from ..sentences import rank_correlation

Score = TypeVar("Score")


@dataclass(frozen=True)
class ClassificationScores:
    """Scores of a classifier.

    Attributes:
        accuracy: in [0, 1].
        macro_f1: mean F1, in [0, 1], over the classes that occur in gold labels or predictions.
        mcc: Matthews correlation coefficient, in [-1, 1]; 0 if either side has only one class.
        rows: number of scored rows.
        by_language: language -> scores, in the order of the languages' first rows.
    """

    accuracy: float
    macro_f1: float
    mcc: float
    rows: int
    by_language: dict[str, ClassificationScores] = field(default_factory=dict)


@dataclass(frozen=True)
class RegressionScores:
    """Pearson's and Spearman's correlation, in [-1, 1], the number of rows, and the same for each language."""

    pearson: float
    spearman: float
    rows: int
    by_language: dict[str, RegressionScores] = field(default_factory=dict)


def classification_scores(
    gold: Sequence[int | str], predicted: Sequence[int | str], languages: Sequence[str] | None = None
) -> ClassificationScores:
    """Score predicted classes.

    Args:
        gold: one class id or name per row.
        predicted: one class id or name per row.
        languages: one language per row.

    Raises:
        ValueError: there are no rows, lengths differ, or a class id is not an integer, such as a probability.
    """

    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    def score(truth: np.ndarray, found: np.ndarray, **languages: dict) -> ClassificationScores:
        macro_f1, mcc = f1_score(truth, found, average="macro"), matthews_corrcoef(truth, found)
        return ClassificationScores(accuracy_score(truth, found), float(macro_f1), float(mcc), len(truth), **languages)

    return _scored(score, _classes(gold, "gold"), _classes(predicted, "predicted"), languages)


def binary_f1(gold: Sequence[int], predicted: Sequence[int]) -> float:
    """F1, in [0, 1], of class 1 in binary classification; 0 if class 1 occurs on neither side.

    Raises:
        ValueError: as `classification_scores`; or there is a class other than 0 and 1.
    """
    from sklearn.metrics import f1_score

    truth, found = _classes(gold, "gold"), _classes(predicted, "predicted")
    _check_lengths(truth, found)
    if others := set(truth.tolist() + found.tolist()) - {0, 1}:
        raise ValueError(f"Binary F1 takes the classes 0 and 1, but got {sorted(others, key=str)[0]!r}.")
    return float(f1_score(truth, found, zero_division=0))


def regression_scores(
    gold: Sequence[float], predicted: Sequence[float], languages: Sequence[str] | None = None
) -> RegressionScores:
    """Score predicted numbers.

    Args:
        gold: one number per row.
        predicted: one number per row, on any scale.
        languages: one language per row.

    Raises:
        ValueError: there are no rows, lengths differ, or a side is constant or not finite.
    """

    def score(truth: np.ndarray, found: np.ndarray, **languages: dict) -> RegressionScores:
        spearman = rank_correlation(truth, found)  # first, since it checks the values
        return RegressionScores(float(pearsonr(truth, found).statistic), spearman, len(truth), **languages)

    truth, found = (np.asarray(values, dtype=np.float64) for values in (gold, predicted))
    return _scored(score, truth, found, languages)


def _scored(
    score: Callable[..., Score], gold: np.ndarray, predicted: np.ndarray, languages: Sequence[str] | None
) -> Score:
    """Score all rows, and the rows of each language."""
    _check_lengths(gold, predicted)
    check_languages(languages, len(gold))
    languages = np.asarray([] if languages is None else list(languages))
    by_language = {}
    for language in dict.fromkeys(languages.tolist()):
        own = languages == language
        try:
            by_language[language] = score(gold[own], predicted[own])
        except ValueError as error:
            raise ValueError(f"Language {language!r}: {error}") from None
    return score(gold, predicted, by_language=by_language)


def check_languages(languages: Sequence[str] | None, rows: int) -> None:
    """Raise a ValueError if languages are given but their number is not the number of rows."""
    if languages is not None and len(languages) != rows:
        raise ValueError(f"Each row needs a language, but there are {rows} rows and {len(languages)} languages.")


def _check_lengths(gold: np.ndarray, predicted: np.ndarray) -> None:
    if not len(gold) or len(gold) != len(predicted):
        raise ValueError(
            f"Scores need as many predictions as gold labels, and at least one, but got {len(predicted)} and "
            f"{len(gold)}."
        )


def _classes(labels: Sequence[int | str], side: str) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.dtype.kind == "f":
        # This also finds NaN.
        if (wrong := labels[labels != np.round(labels)]).size:
            raise ValueError(
                f"{side} labels must be classes, but one of them is {wrong[0]:g}. Pass the most likely class of each "
                "row, not its probability."
            )
        return labels.astype(np.int64)
    return labels


@dataclass(frozen=True)
class CalibrationBin:
    """Predictions with a confidence in (low, high], one bar of a reliability diagram.

    Attributes:
        low, high: the bounds of the bin.
        count: number of predictions.
        confidence: their mean confidence; None if there are none.
        accuracy: their share of correct predictions; None if there are none.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error, in [0, 1], and its bins."""

    error: float
    bins: tuple[CalibrationBin, ...]


def expected_calibration_error(confidences: Sequence[float], correct: Sequence[bool], *, bins: int = 15) -> Calibration:
    """Mean absolute difference of confidence and accuracy over bins, weighted by the bins' counts.

    Guo et al. 2017, arXiv:1706.04599, equation 3, with bins of equal width. They use 15 bins.

    Args:
        confidences: probability of each predicted class, in [0, 1].
        correct: whether each predicted class is correct.
        bins: number of bins in [0, 1]; 0 belongs to the first bin.

    Raises:
        ValueError: there are no predictions, lengths differ, or a confidence is outside [0, 1], such as a logit or
            None.
    """
    if not len(confidences) or len(confidences) != len(correct):
        raise ValueError(
            "Calibration needs as many confidences as values of `correct`, and at least one, but got "
            f"{len(confidences)} and {len(correct)}."
        )
    sure, right = np.asarray(confidences, dtype=np.float64), np.asarray(correct, dtype=bool)
    if (outside := np.flatnonzero(~((sure >= 0) & (sure <= 1)))).size:
        raise ValueError(
            f"Confidences are probabilities in [0, 1], but number {outside[0]} is {confidences[outside[0]]}. Leave out "
            "words without a probability, and apply softmax to logits."
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
