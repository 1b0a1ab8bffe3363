"""Spans of a batch follow its rows, and pair the tokens that cover the same characters."""

import pytest
import tiny
import torch
from datasets import Dataset
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retort import DistillationCollator
from retort.collators import InputFormat, SpanCollator
from retort.data import tokenize_spans

PADDED, PACKED = InputFormat(pad_token_id=0), InputFormat(pad_token_id=0, packed=True)
OTHER_WORDS = tiny.tokenizer("wordpiece, other words")


def row(spans, teacher_spans=None, *, text_id=0, words=None, start=0):
    """Tokens numbered from `start`; each span is a word of its own, of as many characters as it has tokens."""
    last = max([*spans, *(teacher_spans or ())], default=-1)
    made = {
        "input_ids": list(range(start, start + len(spans))),
        "spans": spans,
        "span_words": list(range(last + 1)) if words is None else words,
        "span_characters": [spans.count(span) for span in range(last + 1)],
        "text_id": text_id,
        "length": len(spans),
    }
    if teacher_spans is None:
        return made
    ids = list(range(start + 50, start + 50 + len(teacher_spans)))
    return made | {"teacher_input_ids": ids, "teacher_spans": teacher_spans}


def collate(rows, student=PADDED, teacher=PADDED, **settings):
    return SpanCollator(DistillationCollator(student, teacher), **settings)(rows)


def flat(batch, side=""):
    inputs, layout = batch.of_teacher if side else (batch.student, batch.layout)
    return layout.flatten(inputs["input_ids"])


# --- Spans -----------------------------------------------------------------------------------------------------------


def test_spans_are_numbered_anew_over_the_rows():
    batch = collate(
        [row([0, 1, 1, -1], [1, 0], text_id=7, words=[4, 4]), row([2, 0, 1], [0, -1, 1, 2], text_id=-(2**63))]
    )
    spans = batch.spans
    assert len(spans) == 5
    assert spans.student.tolist() == [0, 1, 1, -1, 4, 2, 3]
    assert spans.teacher.tolist() == [1, 0, 2, -1, 3, 4]
    assert spans.texts.tolist() == [7, 7, -(2**63), -(2**63), -(2**63)]
    assert spans.places.tolist() == [0, 1, 0, 1, 2]
    assert spans.words.tolist() == [4, 4, 0, 1, 2]
    assert spans.characters.tolist() == [1, 2, 1, 1, 1]
    assert batch.row_texts.tolist() == [7, -(2**63)]
    # Nothing else is added to what the views' collator makes.
    added = {"spans", "alignment", "row_texts", "unaligned", "on_host"}
    assert tiny.parts(batch) - {"student", "layout", "teacher", "teacher_layout"} == added


def test_without_a_teachers_tokens_there_is_no_alignment():
    batch = collate([row([0, 1])], teacher=None)
    assert batch.spans.teacher is None
    assert batch.alignment is None
    assert batch.spans.to("meta").teacher is None


def test_all_of_a_batchs_spans_move_to_a_device():
    moved = collate([row([0, 1], [0, 1])]).spans.to("meta")
    assert all(tensor.device.type == "meta" for tensor in vars(moved).values())


SIDE = st.lists(st.integers(-1, 4), min_size=1, max_size=7)


@settings(max_examples=60)
@given(st.lists(st.tuples(SIDE, SIDE), min_size=1, max_size=6), st.booleans(), st.booleans())
@example([([-1], [-1])], False, False)  # no span at all
def test_spans_follow_the_order_of_the_rows_in_every_view(sides, packed, teacher_packed):
    rows = [row(*pair, text_id=100 + i, start=100 * i) for i, pair in enumerate(sides)]
    batch = collate(rows, InputFormat(0, packed=packed), InputFormat(0, packed=teacher_packed))
    order = list(range(len(rows))) if batch.order is None else batch.order.tolist()
    assert batch.row_texts.tolist() == [100 + i for i in order]
    spans = batch.spans
    for column, side, owners in (("spans", "", spans.student), ("teacher_spans", "teacher_", spans.teacher)):
        assert flat(batch, side).tolist() == [token for i in order for token in rows[i][f"{side}input_ids"]]
        assert [spans.places[o].item() if o >= 0 else -1 for o in owners] == [s for i in order for s in rows[i][column]]
        texts = [spans.texts[o].item() if o >= 0 else None for o in owners]
        assert texts == [100 + i if span >= 0 else None for i in order for span in rows[i][column]]
    assert spans.words.tolist() == [word for i in order for word in rows[i]["span_words"]]
    assert spans.characters.tolist() == [count for i in order for count in rows[i]["span_characters"]]


# --- Pairs -----------------------------------------------------------------------------------------------------------

# Span 0 is one token on both sides, 1 two of the student's, 2 two of the teacher's, 3 the student's alone; those of
# spans 4 and 5 come in another order on either side.
MIXED = row([0, 1, 1, 2, 3, 5, 4, -1], [5, 0, 1, 2, 2, -1, 4])


def test_one_to_one_pairs_are_spans_of_one_token_on_both_sides():
    batch = collate([MIXED, MIXED], one_to_one=True)
    alignment = batch.alignment
    assert alignment.counts is None
    assert alignment.student.tolist() == [0, 6, 5, 8, 14, 13]
    assert alignment.teacher.tolist() == [1, 6, 0, 8, 13, 7]


def test_pairs_of_one_token_of_the_teachers_and_several_of_the_students_by_hand():
    alignment = collate([row([0], [0]), MIXED]).alignment
    assert len(alignment) == 5
    assert alignment.teacher.tolist() == [0, 2, 3, 7, 1]
    assert alignment.counts.tolist() == [1, 1, 2, 1, 1]
    states = torch.tensor([[10.0], [0.0], [1.0], [5.0], [100.0], [100.0], [7.0], [8.0], [100.0]])
    assert alignment.sums(states).flatten().tolist() == [10, 0, 6, 8, 7]
    assert alignment.of_student(states).flatten().tolist() == [10, 0, 3, 8, 7]
    assert alignment.of_teacher(torch.arange(8)).tolist() == [0, 2, 3, 7, 1]


@pytest.mark.parametrize("one_to_one", [True, False])
@pytest.mark.parametrize("student", [PADDED, PACKED], ids=["padded", "packed"])
def test_a_batch_without_any_pair_has_an_empty_alignment(student, one_to_one):
    alignment = collate([row([0, -1], [0, 0]), row([-1], [0])], student, one_to_one=one_to_one).alignment
    assert len(alignment) == len(alignment.student) == 0
    assert alignment.sums(torch.ones(3, 4)).shape == alignment.of_student(torch.ones(3, 4)).shape == (0, 4)


@pytest.mark.parametrize("view", [PADDED, PACKED], ids=["padded", "packed"])
@pytest.mark.parametrize("one_to_one", [True, False])
@pytest.mark.parametrize("form", [None, "numpy"])
def test_pairs_of_real_texts_cover_the_same_characters(tokenizer, view, one_to_one, form):
    data = Dataset.from_dict({"text": [*tiny.sentences(20), "the The dog, dog"]})
    rows = tokenize_spans(data, tokenizer, teacher_tokenizer=OTHER_WORDS).with_format(form)
    batch = collate(list(rows), view, one_to_one=one_to_one)
    alignment = batch.alignment
    ours = tokenizer.convert_ids_to_tokens(flat(batch)[alignment.student])
    theirs = OTHER_WORDS.convert_ids_to_tokens(flat(batch, "teacher_")[alignment.teacher])
    counts = [1] * len(theirs) if one_to_one else alignment.counts.tolist()
    pieces = iter(ours)
    joined = ["".join(next(pieces).removeprefix("##" if k else "") for k in range(count)) for count in counts]
    assert joined == theirs
    assert next(pieces, None) is None
    # "dog" is one token of the teacher's and three of the student's, "cat" the other way round.
    assert ("dog" in theirs) == (not one_to_one)
    assert {"the", "[CLS]", "[SEP]"} <= set(theirs)
    assert "cat" not in theirs


# --- Bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.promise(9)
@pytest.mark.parametrize("missing", ["spans", "span_words", "span_characters", "text_id"])
def test_rows_of_another_kind_are_an_error(missing):
    rows = [{name: value for name, value in row([0], [0]).items() if name != missing}]
    with pytest.raises(ValueError, match=rf"no column {missing}, only .*Run retort\.data\.tokenize_spans"):
        collate(rows)
    with pytest.raises(ValueError, match="at least one row"):
        collate([])
