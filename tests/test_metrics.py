"""Metrics for `evaluate`: loaded from their folders without a network, or made from their classes."""

from pathlib import Path

import evaluate
import pytest
from scipy.stats import pearsonr, spearmanr

import retort.evaluation.metrics
from retort.evaluation import classification_scores
from retort.evaluation.metrics import Classification, EntityF1, Glue

FOLDER = Path(retort.evaluation.metrics.__file__).parent
CLASSES = {"entity_f1": EntityF1, "classification": Classification, "glue": Glue}

REFERENCES, PREDICTIONS = [1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0, 0]


@pytest.fixture(params=["loaded", "made"])
def metric(request, tmp_path):
    """A metric by name and configuration, come by in both ways."""

    def get(name, config=None):
        if request.param == "made":
            return CLASSES[name](config, cache_dir=str(tmp_path))
        return evaluate.load(str(FOLDER / name), config, cache_dir=str(tmp_path))

    return get


@pytest.mark.promise(8)
def test_entities_are_scored_strictly_over_batches_of_rows(metric):
    f1 = metric("entity_f1")
    f1.add_batch(references=[["B-PER", "I-PER"]], predictions=[["B-PER", "I-PER"]])
    f1.add_batch(references=[["B-LOC", "I-LOC"], ["O", "O"]], predictions=[["B-LOC", "O"], ["I-LOC", "O"]])
    assert f1.compute() == {
        "precision": 0.5,
        "recall": 0.5,
        "f1": 0.5,
        "macro_f1": 0.5,
        "f1_LOC": 0.0,
        "f1_PER": 1.0,
    }


def test_entities_are_scored_by_language_where_languages_are_given(metric):
    tags = [["B-PER"], ["B-PER", "B-PER"]]
    result = metric("entity_f1").compute(references=tags, predictions=[["B-PER"], ["O", "O"]], languages=["a", "b"])
    assert result["language_mean_f1"] == 0.5
    assert result["f1"] == 0.5


def test_classes_are_scored_in_three_ways(metric):
    scores = classification_scores(REFERENCES, PREDICTIONS)
    assert metric("classification").compute(references=REFERENCES, predictions=PREDICTIONS) == {
        "accuracy": scores.accuracy,
        "macro_f1": scores.macro_f1,
        "matthews_correlation": scores.mcc,
    }


ACCURACY = {"accuracy": 0.75}


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("cola", {"matthews_correlation": 7 / 15}),
        ("sst2", ACCURACY),
        ("mrpc", ACCURACY | {"f1": 2 / 3}),
        ("qqp", ACCURACY | {"f1": 2 / 3}),
        ("mnli", ACCURACY),
        ("qnli", ACCURACY),
        ("rte", ACCURACY),
        ("wnli", ACCURACY),
    ],
)
def test_each_task_of_glue_has_its_published_measures(metric, task, expected):
    result = metric("glue", task).compute(references=REFERENCES, predictions=PREDICTIONS)
    assert result == pytest.approx(expected)


def test_stsb_is_scored_by_correlations(metric):
    gold, predicted = [0.0, 1.5, 2.5, 5.0], [0.2, 1.0, 4.0, 3.0]
    assert metric("glue", "stsb").compute(references=gold, predictions=predicted) == pytest.approx(
        {"pearson": pearsonr(gold, predicted).statistic, "spearmanr": spearmanr(gold, predicted).statistic}
    )


@pytest.mark.promise(9)
def test_a_task_that_glue_has_not_is_refused(metric):
    with pytest.raises(ValueError, match=r"GLUE has the tasks cola, .*, but got config_name='squad'"):
        metric("glue", "squad")


@pytest.mark.promise(9)
@pytest.mark.parametrize(("name", "config"), [("classification", None), ("glue", "sst2")])
def test_probabilities_are_not_cut_down_to_classes(metric, name, config):
    with pytest.raises(ValueError, match=r"predicted labels must be classes, but one of them is 0\.9"):
        metric(name, config).compute(references=[1, 0], predictions=[0.9, 0.2])
