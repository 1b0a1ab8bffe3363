"""Scores of classifiers and regressors, and calibration of classifiers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import pearsonr

from ..sentences import rank_correlation


@dataclass(frozen=True)
class ClassificationScores:
    """Scores of a classifier.

    Attributes:
        accuracy: in [0, 1].
        macro_f1: mean F1, in [0, 1], over the classes that occur in gold labels or predictions.
        mcc: Matthews correlation coefficient, in [-1, 1]; 0 if either side has only one class.
        rows: number of scored rows.
    """

    accuracy: float
    macro_f1: float
    mcc: float
    rows: int


@dataclass(frozen=True)
class RegressionScores:
    """Pearson's and Spearman's correlation, in [-1, 1], and the number of rows."""

    pearson: float
    spearman: float
    rows: int


def classification_scores(gold: Sequence[int | str], predicted: Sequence[int | str]) -> ClassificationScores:
    """Score predicted classes.

    Args:
        gold: one class id or name per row.
        predicted: one class id or name per row.

    Raises:
        ValueError: there are no rows, lengths differ, or a class id is not an integer, such as a probability.
    """
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    truth, found = _classes(gold, "gold"), _classes(predicted, "predicted")
    _check_lengths(truth, found)
    macro_f1, mcc = f1_score(truth, found, average="macro"), matthews_corrcoef(truth, found)
    return ClassificationScores(accuracy_score(truth, found), float(macro_f1), float(mcc), len(truth))


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


def regression_scores(gold: Sequence[float], predicted: Sequence[float]) -> RegressionScores:
    """Score predicted numbers.

    Args:
        gold: one number per row.
        predicted: one number per row, on any scale.

    Raises:
        ValueError: there are no rows, lengths differ, or a side is constant or not finite.
    """
    truth, found = (np.asarray(values, dtype=np.float64) for values in (gold, predicted))
    _check_lengths(truth, found)
    spearman = rank_correlation(truth, found)  # first, since it checks the values
    return RegressionScores(float(pearsonr(truth, found).statistic), spearman, len(truth))


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


def expected_calibration_error(confidences: Sequence[float], correct: Sequence[bool], *, bins: int = 15) -> float:
    """Mean absolute difference of confidence and accuracy over bins, weighted by the bins' counts; in [0, 1].

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
    places = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], sure)
    # A bin's count times the difference of its means is the difference of its sums.
    return float(np.abs(np.bincount(places, sure - right)).sum() / len(sure))
