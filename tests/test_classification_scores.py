"""Scores of classes, of numbers, and of confidence: by hand and against the library they come from."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from retort.evaluation import (
    ClassificationScores,
    classification_scores,
    expected_calibration_error,
    regression_scores,
)
from retort.evaluation.tasks import binary_f1

GOLD = [1, 1, 1, 0, 0, 0, 0, 0]
PREDICTED = [1, 1, 0, 1, 0, 0, 0, 0]


def test_scores_are_those_computed_by_hand():
    scores = classification_scores(GOLD, PREDICTED)
    # Of class 1: 2 true, 1 false, 1 missed, F1 2/3; of class 0: 4 true, 1 false, 1 missed, F1 4/5.
    assert scores.accuracy == 0.75
    assert scores.macro_f1 == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert scores.mcc == pytest.approx((2 * 4 - 1 * 1) / (3 * 3 * 5 * 5) ** 0.5)
    assert scores.rows == 8
    assert binary_f1(GOLD, PREDICTED) == pytest.approx(2 / 3)


def test_names_of_classes_do_as_well_as_numbers():
    names = np.array(["no", "yes"])
    assert classification_scores(names[GOLD], names[PREDICTED]) == classification_scores(GOLD, PREDICTED)


def test_a_model_that_always_says_the_same_has_no_correlation_with_the_classes():
    assert classification_scores([0, 1], [0, 0]) == ClassificationScores(0.5, pytest.approx(1 / 3), 0.0, 2)
    assert binary_f1([0, 1], [0, 0]) == 0


def test_regression_is_scored_by_both_correlations():
    gold, predicted = [0.0, 1.0, 2.0, 3.0, 5.0], [0.1, 0.9, 4.0, 3.5, 4.1]
    scores = regression_scores(gold, predicted)
    assert scores.pearson == pytest.approx(pearsonr(gold, predicted).statistic)
    assert scores.spearman == pytest.approx(spearmanr(gold, predicted).statistic)
    assert scores.rows == 5


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("score", "gold", "predicted", "message"),
    [
        (classification_scores, [], [], "at least one, but got 0 and 0"),
        (classification_scores, [1, 0], [1], "but got 1 and 2"),
        (classification_scores, [1, 0], [0.9, 0.2], "predicted labels must be classes, but one of them is 0.9"),
        (classification_scores, [1, float("nan")], [1, 0], "gold labels must be classes, but one of them is nan"),
        (classification_scores, [1, 0], ["yes", "no"], "Mix of label input types"),
        (regression_scores, [1, 2], [1, 1], "second values to correlate are all 1"),
        (regression_scores, [1, 2], [1, float("nan")], "second values to correlate contain NaN"),
        (regression_scores, [1, 2, 3], [1, 2], "but got 2 and 3"),
    ],
)
def test_what_can_not_be_scored_is_refused(score, gold, predicted, message):
    with pytest.raises(ValueError, match=message):
        score(gold, predicted)


@pytest.mark.promise(9)
def test_f1_of_two_classes_refuses_a_third():
    with pytest.raises(ValueError, match="takes the classes 0 and 1, but got 2"):
        binary_f1([0, 1], [2, 1])


# --- Calibration ------------------------------------------------------------------------------------------------------


def test_calibration_error_is_that_computed_by_hand():
    error = expected_calibration_error([0.5, 0.6, 0.9, 1.0], [True, False, True, True], bins=2)
    # (0, 0.5]: sure 0.5, right 1; (0.5, 1]: sure 2.5 / 3, right 2 / 3.
    assert error == pytest.approx(0.25 * 0.5 + 0.75 * (2.5 - 2) / 3)


def test_empty_bins_weigh_nothing():
    assert expected_calibration_error([0.0, 1.0], [False, True]) == 0


@settings(max_examples=60)
@given(pairs=st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1), bins=st.integers(1, 20))
def test_every_prediction_counts_in_its_bin_and_the_error_is_between_0_and_1(pairs, bins):
    edges, expected = np.linspace(0, 1, bins + 1), 0
    for low, high in pairwise(edges):
        inside = [(c, right) for c, right in pairs if low < c <= high or (c == low == 0)]
        confidence, accuracy = np.mean(inside, axis=0) if inside else (0, 0)
        expected += len(inside) * abs(confidence - accuracy) / len(pairs)
    error = expected_calibration_error(*zip(*pairs, strict=True), bins=bins)
    assert error == pytest.approx(expected, abs=1e-12)
    assert 0 <= error <= 1


def test_one_bin_compares_mean_confidence_with_accuracy():
    assert expected_calibration_error([0.8, 0.6], [True, False], bins=1) == pytest.approx(0.2)


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("confidences", "correct", "message"),
    [
        ([], [], "at least one, but got 0 and 0"),
        ([0.5], [True, False], "but got 1 and 2"),
        ([0.5, 1.5], [True, True], "number 1 is 1.5"),
        ([0.5, float("nan")], [True, True], "number 1 is nan"),
        ([None], [True], "number 0 is None"),
    ],
)
def test_confidences_that_are_no_probabilities_are_refused(confidences, correct, message):
    with pytest.raises(ValueError, match=message):
        expected_calibration_error(confidences, correct)
