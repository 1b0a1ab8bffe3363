"""Intervals of scores: against the theory of a mean, against draws made anew, and against the scores themselves."""

import math

import numpy as np
import pytest
import tiny
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from retort.collators import Masking
from retort.evaluation import bootstrapped, entity_scores, similarity_agreement
from retort.evaluation.sentences import bootstrapped_agreement, rank_correlation
from retort.evaluation.tasks import EntityScore, MaskedModel, ScoredWords, TagPrediction, entity_counts


def test_the_interval_of_a_mean_is_that_of_the_central_limit_theorem():
    values = np.random.default_rng(1).normal(3.0, 2.0, size=2000)
    found = bootstrapped(lambda rows: {"mean": float(values[rows(len(values))].mean())})
    assert found.scores == {"mean": values.mean()}
    reach = 1.96 * values.std() / math.sqrt(len(values))
    low, high = found.intervals["mean"]
    assert low == pytest.approx(values.mean() - reach, abs=0.15 * reach)
    assert high == pytest.approx(values.mean() + reach, abs=0.15 * reach)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20))
@settings(max_examples=20)
def test_an_interval_is_within_the_values_and_all_models_get_the_same_draws(values):
    values = np.array(values)

    def found(shift):
        return bootstrapped(lambda rows: {"mean": float((values[rows(len(values))] + shift).mean())}, 50)

    low, high = found(0.0).intervals["mean"]
    assert values.min() - 1e-9 <= low <= high <= values.max() + 1e-9
    assert found(1.0).intervals["mean"] == pytest.approx((low + 1, high + 1))


def test_test_sets_are_drawn_each_by_itself_and_draws_without_a_score_are_left_out():
    sizes = []

    def score(rows):
        drawn = rows(4), rows(9)
        sizes.append([len(each) for each in drawn])
        assert all(each.max() < size for each, size in zip(drawn, (4, 9), strict=True))
        return {"sometimes": rank_correlation(np.array([0.0, 0.0, 0.0, 1.0])[drawn[0]], np.arange(4.0))}

    found = bootstrapped(score, 40)
    assert sizes == [[4, 9]] * 41
    assert found.intervals["sometimes"][0] <= found.scores["sometimes"] <= found.intervals["sometimes"][1]
    never = iter([{"x": 1.0}])
    assert bootstrapped(lambda rows: next(never, {"x": math.nan}), 5).intervals == {}


def test_agreement_with_the_teacher_is_drawn_by_texts():
    generator = np.random.default_rng(0)
    teacher = generator.normal(size=(40, 5))
    student = teacher + generator.normal(size=(40, 5))
    found = bootstrapped_agreement(teacher, student)
    ((name, value),) = found.scores.items()
    assert value == similarity_agreement(teacher, student)
    # Each draw ranked anew, and the pairs of a text with its copy left out.
    ranks = []
    for _ in range(200):
        drawn = generator.integers(40, size=40)
        first, second = np.triu_indices(40, k=1)
        apart = drawn[first] != drawn[second]
        cosines = [
            (unit[drawn[first]] * unit[drawn[second]]).sum(1)[apart]
            for unit in (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (teacher, student))
        ]
        ranks.append(rank_correlation(*cosines))
    low, high = np.quantile(ranks, (0.025, 0.975))
    assert found.intervals[name] == pytest.approx((low, high), abs=0.3 * (high - low))
    assert bootstrapped_agreement(teacher, teacher).intervals[name] == pytest.approx((1.0, 1.0))


TAGS = st.sampled_from(["O", "B-PER", "I-PER", "B-LOC"])
ROWS = st.lists(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=6), min_size=1, max_size=8)


@given(ROWS)
@settings(max_examples=50)
def test_counts_of_rows_add_up_to_the_score_of_all(rows):
    gold, predicted = ([[pair[side] for pair in row] for row in rows] for side in (0, 1))
    gold[0][0] = "B-PER"
    counts = entity_counts(gold, predicted)
    assert counts.shape == (len(rows), 3)
    assert EntityScore.of_counts(*counts.sum(0).tolist()) == entity_scores(gold, predicted).micro


def test_calibration_is_that_of_the_rows_that_are_named_as_often_as_they_are():
    predicted = [[TagPrediction("O", 0.9), TagPrediction("B-X", 0.5)], [TagPrediction("O", 0.9)]]
    words = ScoredWords.of([["O", "B-X"], ["B-X"]], predicted)
    assert words.calibration_error([1]) == pytest.approx(0.9)
    assert words.calibration_error([0]) == pytest.approx((0.1 + 0.5) / 2)
    # Three words of confidence 0.9, of which one is right; and one of 0.5, which is right.
    assert words.calibration_error([0, 1, 1]) == pytest.approx((3 * 0.9 - 1 + 0.5) / 4)


def test_the_costs_of_rows_add_up_to_that_of_all_hidden_words(monkeypatch):
    hidden = []

    def hide(self, batch, epoch, hide=Masking.__call__):
        hidden.append(hide(self, batch, epoch))
        return hidden[-1]

    monkeypatch.setattr(Masking, "__call__", hide)
    model = MaskedModel(tiny.model("bert", "masked_lm"), tiny.tokenizer(), 64)
    texts = Dataset.from_dict({"text": tiny.sentences(70, seed=2)})
    bits, characters = model.costs(texts)
    assert len(bits) == len(characters) == len(texts)
    assert ((bits > 0) == (characters > 0)).all()
    assert [int(batch.hidden_characters) for batch in hidden] == [characters[:64].sum(), characters[64:].sum()]
    assert model.bits_per_character(texts) == pytest.approx(bits.sum() / characters.sum())
