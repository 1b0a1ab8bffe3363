"""Entity scores: by hand, and against seqeval on whatever rows hypothesis finds."""

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2

from retort.evaluation import EntityScore, entity_scores

GOLD = [
    ["B-PER", "I-PER", "O", "B-LOC"],
    ["B-ORG", "O", "B-LOC", "I-LOC"],
    ["O", "B-PER", "O", "O"],
]
PREDICTED = [
    ["B-PER", "I-PER", "O", "B-ORG"],  # PER correct, LOC taken for ORG
    ["B-ORG", "O", "B-LOC", "O"],  # ORG correct, LOC too short
    ["B-MISC", "O", "O", "I-PER"],  # MISC spurious, PER missed; an I- alone is no entity
]


def test_scores_are_those_computed_by_hand():
    scores = entity_scores(GOLD, PREDICTED)
    # 2 correct of 5 predicted and of 5 gold.
    assert scores.micro == EntityScore(0.4, 0.4, pytest.approx(0.4), 5)
    assert list(scores.by_type) == ["LOC", "MISC", "ORG", "PER"]
    assert scores.by_type["LOC"] == EntityScore(0.0, 0.0, 0.0, 2)
    assert scores.by_type["MISC"] == EntityScore(0.0, 0.0, 0.0, 0)
    assert scores.by_type["ORG"] == EntityScore(0.5, 1.0, pytest.approx(2 / 3), 1)
    assert scores.by_type["PER"] == EntityScore(1.0, 0.5, pytest.approx(2 / 3), 2)
    assert scores.macro == EntityScore(0.375, 0.375, pytest.approx(1 / 3), 5)


def test_a_model_that_tags_in_iob1_is_scored_with_a_warning(caplog):
    gold = [["B-PER", "I-PER", "O", "B-LOC"]] * 12
    with caplog.at_level(logging.WARNING):
        assert entity_scores(gold, [["I-PER", "I-PER", "O", "I-LOC"]] * 12).micro.f1 == 0
    assert "24 predicted spans begin with I- and are ignored" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        entity_scores(gold, [["B-PER", "I-PER", "O", "I-LOC"]] * 12)
        entity_scores(GOLD, PREDICTED)
    assert not caplog.text


def test_confusion_tells_what_became_of_each_entity():
    confusion = entity_scores(GOLD, PREDICTED).confusion
    nothing = dict.fromkeys(["LOC", "MISC", "ORG", "PER"], 0)
    assert confusion.types == {
        "LOC": nothing | {"ORG": 1},
        "MISC": nothing,
        "ORG": nothing | {"ORG": 1},
        "PER": nothing | {"PER": 1},
    }
    assert confusion.boundary == nothing | {"LOC": 1}
    assert confusion.missed == nothing | {"PER": 1}
    assert confusion.spurious == nothing | {"MISC": 1}


def test_languages_are_scored_apart_and_averaged_without_those_that_have_no_entities(caplog):
    gold, predicted = [*GOLD, ["O"]], [*PREDICTED, ["B-PER"]]
    with caplog.at_level(logging.WARNING):
        scores = entity_scores(gold, predicted, ["de", "fr", "de", "sw"])
    # German: 1 correct of 3 predicted and 3 gold; French: 1 of 2 and 2.
    assert scores.by_language == {
        "de": EntityScore(1 / 3, 1 / 3, pytest.approx(1 / 3), 3),
        "fr": EntityScore(0.5, 0.5, pytest.approx(0.5), 2),
    }
    assert scores.language_mean == EntityScore(
        *[pytest.approx((1 / 3 + 1 / 2) / 2)] * 3,
        5,
    )
    assert "Languages without gold entities are left out of the mean: sw." in caplog.text
    # Its spurious entity still counts in the score over all rows.
    assert scores.micro.precision == pytest.approx(2 / 6)


def test_the_table_shows_it_all():
    assert entity_scores(GOLD, PREDICTED, ["de", "fr", "de"]).table().splitlines() == [
        "by type   precision   recall      F1   gold",
        "LOC            0.00     0.00    0.00      2",
        "MISC           0.00     0.00    0.00      0",
        "ORG           50.00   100.00   66.67      1",
        "PER          100.00    50.00   66.67      2",
        "micro         40.00    40.00   40.00      5",
        "macro         37.50    37.50   33.33      5",
        "",
        "by language   precision   recall      F1   gold",
        "de                33.33    33.33   33.33      3",
        "fr                50.00    50.00   50.00      2",
        "mean              41.67    41.67   41.67      5",
        "",
        r"gold \ predicted   LOC   MISC   ORG   PER   (boundary)   (missed)",
        "LOC                  0      0     1     0            1          0",
        "MISC                 0      0     0     0            0          0",
        "ORG                  0      0     1     0            0          0",
        "PER                  0      0     0     1            0          1",
        "(spurious)           0      1     0     0                        ",
    ]


TAGS = st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "I-ORG"])
ROWS = st.lists(st.lists(st.tuples(TAGS, TAGS), max_size=8), min_size=1, max_size=6)


def sides(rows):
    """Gold and predicted tags; a first row sees to it that there is an entity."""
    rows = [[("B-PER", "O")], *rows]
    return [[gold for gold, _ in row] for row in rows], [[predicted for _, predicted in row] for row in rows]


@settings(max_examples=60)
@given(rows=ROWS)
def test_seqeval_gives_the_same_scores(rows):
    gold, predicted = sides(rows)
    scores = entity_scores(gold, predicted)
    theirs = classification_report(gold, predicted, mode="strict", scheme=IOB2, output_dict=True, zero_division=0)
    ours = scores.by_type | {"micro avg": scores.micro, "macro avg": scores.macro}
    del theirs["weighted avg"]
    assert ours.keys() == theirs.keys()
    for name, score in ours.items():
        assert [score.precision, score.recall, score.f1, score.support] == pytest.approx(
            [theirs[name][measure] for measure in ("precision", "recall", "f1-score", "support")]
        )


@settings(max_examples=60)
@given(rows=ROWS)
def test_every_gold_entity_has_one_place_in_the_confusion(rows):
    scores = entity_scores(*sides(rows))
    found = scores.confusion
    for kind, score in scores.by_type.items():
        assert sum(found.types[kind].values()) + found.boundary[kind] + found.missed[kind] == score.support
        assert found.types[kind][kind] == round(score.recall * score.support)


@settings(max_examples=60)
@given(rows=ROWS, data=st.data())
def test_a_language_is_scored_as_if_it_were_alone(rows, data):
    gold, predicted = sides(rows)
    languages = data.draw(st.lists(st.sampled_from(["a", "b"]), min_size=len(gold), max_size=len(gold)))
    scores = entity_scores(gold, predicted, languages)
    for language, score in scores.by_language.items():
        own = [place for place, name in enumerate(languages) if name == language]
        assert entity_scores([gold[i] for i in own], [predicted[i] for i in own]).micro == score


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("gold", "predicted", "languages", "message"),
    [
        ([["O", "O"]], [["O", "B-PER"]], None, "None of the 1 gold rows has an entity"),
        ([], [], None, "None of the 0 gold rows"),
        ([["B-PER"]], [], None, "There are 1 gold rows, but 0 predicted rows"),
        ([["O"], ["B-PER", "O"]], [["O"], ["O"]], None, "Row 1 has 2 gold tags, but 1 predicted tags"),
        ([["B-PER"]], [["LABEL_0"]], None, "Row 0 has the predicted tag 'LABEL_0', which is not IOB2"),
        ([["fr:B-PER"]], [["O"]], None, "Row 0 has the gold tag 'fr:B-PER', which is not IOB2"),
        ([["B-PER"]], [["O"]], ["de", "fr"], "there are 1 rows and 2 languages"),
    ],
)
def test_what_can_not_be_scored_is_refused(gold, predicted, languages, message):
    with pytest.raises(ValueError, match=message):
        entity_scores(gold, predicted, languages)
