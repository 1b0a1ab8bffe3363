"""Batches hold every row's tokens, labels, alignment and cached outputs, in one order, whatever the view."""

from dataclasses import is_dataclass

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retort import DistillationCollator
from retort.collators import InputFormat

PADDED, PACKED = InputFormat(pad_token_id=9), InputFormat(pad_token_id=9, packed=True, position_offset=2)


def row(length, start=0, **columns):
    return {"input_ids": list(range(start, start + length)), "length": length} | columns


def test_a_padded_batch_is_right_padded_with_the_views_token():
    batch = DistillationCollator(PADDED)([row(2), row(3, 20)])
    assert tiny.parts(batch) == {"student", "layout"}
    assert batch.student["input_ids"].tolist() == [[0, 1, 9], [20, 21, 22]]
    assert batch.student["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch.layout.lengths.tolist() == [2, 3]
    assert not batch.layout.packed


def test_a_packed_batch_is_one_row_with_positions_that_start_anew():
    batch = DistillationCollator(PACKED)([row(3, 20), row(2), row(3, 30)])
    assert batch.order.tolist() == [1, 0, 2]
    assert batch.student["input_ids"].tolist() == [[0, 1, 20, 21, 22, 30, 31, 32]]
    assert batch.student["position_ids"].tolist() == [[2, 3, 2, 3, 4, 2, 3, 4]]
    assert batch.student["attention_mask"].runs == ((1, 2), (2, 3))
    assert set(batch.student) == {"input_ids", "position_ids", "attention_mask"}
    assert batch.layout.packed


@pytest.mark.parametrize("view", [PADDED, PACKED])
def test_token_types_are_passed_where_there_are_any(view):
    types = [[0, 1], [0, 1, 1]]
    batch = DistillationCollator(view)([row(len(t), token_type_ids=t) for t in types])
    expected = [[0, 1, 0, 1, 1]] if view.packed else [[0, 1, 0], [0, 1, 1]]
    assert batch.student["token_type_ids"].tolist() == expected


def test_the_teachers_view_holds_the_students_tokens_where_the_rows_have_none_of_its_own():
    batch = DistillationCollator(PACKED, PADDED)([row(3, 20), row(2)])
    assert batch.student["input_ids"].tolist() == [[0, 1, 20, 21, 22]]
    assert batch.teacher["input_ids"].tolist() == [[0, 1, 9], [20, 21, 22]]
    assert batch.layout.packed
    assert not batch.teacher_layout.packed


def test_the_teachers_own_tokens_follow_the_order_of_the_rows():
    rows = [row(3, teacher_input_ids=[50]), row(1, teacher_input_ids=[60, 61], teacher_token_type_ids=[0, 1])]
    rows[0]["teacher_token_type_ids"] = [1]
    batch = DistillationCollator(PACKED, InputFormat(0, packed=True))(rows)
    assert batch.teacher["input_ids"].tolist() == [[60, 61, 50]]
    assert batch.teacher["token_type_ids"].tolist() == [[0, 1, 1]]
    assert batch.teacher["attention_mask"].runs == ((1, 2), (1, 1))
    assert "token_type_ids" not in batch.student


def test_no_teacher_view_is_made_unless_one_is_asked_for():
    batch = DistillationCollator(PADDED)([row(3, teacher_input_ids=[50])])
    assert tiny.parts(batch) == {"student", "layout"}


@pytest.mark.parametrize(
    ("values", "dtype"), [([2, 0], torch.int64), ([0.5, 3.0], torch.float32), ([True, False], torch.int64)]
)
def test_one_label_per_row_keeps_its_kind(values, dtype):
    batch = DistillationCollator(PACKED)([row(3, labels=values[0]), row(2, labels=values[1])])
    assert batch.labels.dtype == dtype
    assert batch.labels.tolist() == [values[1], values[0]]


@pytest.mark.parametrize("view", [PADDED, PACKED])
def test_one_label_per_token_is_padded_with_the_ignored_index(view):
    batch = DistillationCollator(view)([row(2, labels=[-100, 1]), row(3, labels=[0, 2, -100])])
    assert batch.labels.tolist() == [[-100, 1, -100], [0, 2, -100]]


def test_alignment_points_at_the_same_words_in_both_flat_sequences():
    rows = [
        row(4, 10, teacher_input_ids=[70, 71], student_positions=[1, 3], teacher_positions=[0, 1]),
        row(2, 20, teacher_input_ids=[80, 81, 82], student_positions=[1], teacher_positions=[2]),
    ]
    batch = DistillationCollator(PACKED, InputFormat(0))(rows)
    ours, theirs = batch.alignment.student, batch.alignment.teacher
    flat = batch.layout.flatten(batch.student["input_ids"])
    teachers_flat = batch.teacher_layout.flatten(batch.teacher["input_ids"])
    assert flat[ours].tolist() == [21, 11, 13]
    assert teachers_flat[theirs].tolist() == [82, 70, 71]


def test_a_row_without_aligned_words_contributes_no_pair():
    rows = [row(2, student_positions=[], teacher_positions=[], teacher_input_ids=[1])]
    alignment = DistillationCollator(PADDED)(rows).alignment
    ours, theirs = alignment.student, alignment.teacher
    assert ours.dtype == theirs.dtype == torch.int64
    assert len(ours) == len(theirs) == 0


def test_cached_outputs_become_rows_flat_tokens_or_padded_maps():
    generator = np.random.default_rng(0)
    lengths = [3, 2]
    rows = [
        row(
            n,
            teacher_embedding=generator.random(5).astype(np.float16),
            teacher_hidden_state_2=generator.random((n, 4)).astype(np.float16),
            teacher_attention_0=generator.random((2, n, n)).astype(np.float32),
            teacher_logits=generator.random(6).tolist(),
        )
        for n in lengths
    ]
    outputs = DistillationCollator(PACKED)(rows).teacher_outputs
    assert set(outputs) == {"embedding", "hidden_state_2", "attention_0", "logits"}
    short, long = rows[1], rows[0]
    assert outputs["embedding"].dtype == torch.float16
    assert outputs["embedding"].tolist() == [short["teacher_embedding"].tolist(), long["teacher_embedding"].tolist()]
    stacked = np.concatenate([short["teacher_hidden_state_2"], long["teacher_hidden_state_2"]])
    assert np.array_equal(outputs["hidden_state_2"].numpy(), stacked)
    maps = outputs["attention_0"]
    assert maps.shape == (2, 2, 3, 3)
    assert np.array_equal(maps[0, :, :2, :2].numpy(), short["teacher_attention_0"])
    assert np.array_equal(maps[1].numpy(), long["teacher_attention_0"])
    assert maps[0, :, 2].abs().sum() == maps[0, :, :, 2].abs().sum() == 0
    assert outputs["logits"].dtype == torch.float32
    torch.testing.assert_close(outputs["logits"], torch.tensor([short["teacher_logits"], long["teacher_logits"]]))


@settings(max_examples=25)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.booleans(), st.booleans())
def test_every_column_follows_the_same_permutation(lengths, packed, teacher_packed):
    rows = [
        row(
            n,
            start=100 * index,
            labels=index,
            teacher_input_ids=[1000 * index + k for k in range((7 * index) % 5 + 1)],
            student_positions=[n - 1],
            teacher_positions=[0],
            teacher_embedding=[float(index)],
            teacher_query_0=np.full(((7 * index) % 5 + 1, 1), index, dtype=np.float32),
        )
        for index, n in enumerate(lengths)
    ]
    batch = DistillationCollator(InputFormat(0, packed=packed), InputFormat(0, packed=teacher_packed))(rows)
    order = torch.arange(len(rows)) if batch.order is None else batch.order
    assert sorted(order.tolist()) == list(range(len(rows)))
    assert (batch.order is not None) == (packed or teacher_packed)
    layout, teacher_layout = batch.layout, batch.teacher_layout
    tokens = layout.flatten(batch.student["input_ids"])
    teacher_tokens = teacher_layout.flatten(batch.teacher["input_ids"])
    assert tokens.tolist() == [t for i in order for t in rows[i]["input_ids"]]
    assert teacher_tokens.tolist() == [t for i in order for t in rows[i]["teacher_input_ids"]]
    assert torch.equal(batch.labels, order)
    assert torch.equal(batch.teacher_outputs["embedding"][:, 0].long(), order)
    assert torch.equal(batch.teacher_outputs["query_0"][:, 0].long(), order[teacher_layout.row_ids])
    ours, theirs = batch.alignment.student, batch.alignment.teacher
    assert tokens[ours].tolist() == [rows[i]["input_ids"][-1] for i in order]
    assert teacher_tokens[theirs].tolist() == [rows[i]["teacher_input_ids"][0] for i in order]
    if packed:
        assert layout.lengths.tolist() == sorted(lengths)


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "at least one row"),
        ([row(2), row(0)], r"Row 1 of the batch has no tokens \(input_ids is empty\)"),
        ([row(2, teacher_input_ids=[])], r"Row 0 .* no tokens \(teacher_input_ids is empty\)"),
        ([row(2), row(2, labels=1)], "row 0 has .* and row 1 has .*labels"),
        ([{"text": "a"}], "no column input_ids"),
        ([row(2, labels=[1, 2]), row(3, labels=[1, 2])], "Row 1 .* 3 tokens, but its labels holds 2 values"),
        ([row(2, token_type_ids=[1])], "2 tokens, but its token_type_ids holds 1 values"),
        (
            [row(2, student_positions=[0, 1], teacher_positions=[0], teacher_input_ids=[1])],
            "aligns 2 student_positions with 1 teacher_positions",
        ),
        (
            [row(2, student_positions=[1], teacher_positions=[1], teacher_input_ids=[1])],
            "teacher_positions names token 1 of a row that has 1 tokens",
        ),
        (
            [row(2, student_positions=[-1], teacher_positions=[0], teacher_input_ids=[1])],
            "student_positions names token -1",
        ),
        ([row(2, teacher_hidden_state_1=np.zeros((3, 4)))], "2 tokens, but its teacher_hidden_state_1 holds 3"),
        ([row(2, teacher_attention_1=np.zeros((1, 3, 3)))], "2 tokens, but its teacher_attention_1 holds 3"),
    ],
)
def test_rows_that_do_not_fit_are_errors(rows, message):
    with pytest.raises(ValueError, match=message):
        DistillationCollator(PADDED, PADDED)(rows)


def test_a_view_is_read_off_a_model_and_its_tokenizer(tokenizer):
    model = tiny.model("roberta")
    assert InputFormat.of(model, tokenizer) == InputFormat(tokenizer.pad_token_id)
    assert InputFormat.of(model, tokenizer, packed=True) == InputFormat(tokenizer.pad_token_id, True, 1)
    padless = tiny.tokenizer()
    padless.pad_token = None
    with pytest.raises(ValueError, match="no padding token"):
        InputFormat.of(model, padless)


# --- Rows that were padded before -------------------------------------------------------------------------------------


def padded(row, width, teacher_width=0, left=False):
    """A row as `tokenizer(..., padding="max_length")` would have left it, aligned columns and labels included."""
    made = dict(row)
    for side, size in (("", width), ("teacher_", teacher_width)):
        if f"{side}input_ids" not in row:
            continue
        fill = size - len(row[f"{side}input_ids"])

        def put(values, value, fill=fill):
            return [value] * fill + values if left else values + [value] * fill

        made[f"{side}attention_mask"] = put([1] * len(row[f"{side}input_ids"]), 0)
        made[f"{side}input_ids"] = put(row[f"{side}input_ids"], 9)
        shift = fill if left else 0
        name = "teacher_positions" if side else "student_positions"
        if name in row:
            made[name] = [place + shift for place in row[name]]
        if not side and isinstance(row.get("labels"), list):
            made["labels"] = put(row["labels"], -100)
        if not side and "token_type_ids" in row:
            made["token_type_ids"] = put(row["token_type_ids"], 0)
    return made


def assert_equal_batches(one, other):
    one, other = (each if isinstance(each, dict) else vars(each) for each in (one, other))
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, other[name]), name
        elif isinstance(value, dict) or is_dataclass(value):
            assert_equal_batches(value, other[name])
        else:
            assert value == other[name], name


@pytest.mark.promise(4)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4),
    left=st.booleans(),
    packed=st.booleans(),
    own_tokens=st.booleans(),
)
@settings(max_examples=60)
def test_rows_that_the_user_padded_make_the_batch_of_the_rows_without_padding(lengths, left, packed, own_tokens):
    rows = []
    for ours, theirs in lengths:
        theirs = theirs if own_tokens else ours
        pairs = min(ours, theirs)
        made = row(ours, 20, token_type_ids=[i % 2 for i in range(ours)], labels=list(range(ours)))
        made |= {"student_positions": list(range(pairs)), "teacher_positions": list(range(theirs - pairs, theirs))}
        rows.append(made | ({"teacher_input_ids": list(range(50, 50 + theirs))} if own_tokens else {}))
    collate = DistillationCollator(PACKED if packed else PADDED, PADDED)
    long = [padded(each, 8, 9, left) for each in rows]
    if not own_tokens and left:  # the teacher reads the student's tokens, so its places move with them
        for each, short in zip(long, rows, strict=True):
            each["teacher_positions"] = [p + 8 - len(short["input_ids"]) for p in short["teacher_positions"]]
    assert_equal_batches(collate(long), collate(rows))


def test_a_label_of_a_padded_row_stays():
    batch = DistillationCollator(PADDED)([padded(row(2, labels=1), 5), padded(row(3, labels=0), 5)])
    assert batch.labels.tolist() == [1, 0]
    assert batch.layout.lengths.tolist() == [2, 3]


def test_a_column_label_is_taken_for_labels():
    collate = DistillationCollator(PADDED)
    assert_equal_batches(collate([row(2, label=1), row(3, label=0)]), collate([row(2, labels=1), row(3, labels=0)]))


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"input_ids": [1, 2, 3], "attention_mask": [1, 0, 1]}, "hides tokens between others"),
        ({"input_ids": [1, 2, 3], "attention_mask": [1, 1]}, "Row 0 .* 3 tokens, but its attention mask has 2 values"),
        ({"input_ids": [1, 2], "attention_mask": [0, 0]}, "has no tokens"),
        ({"input_ids": [1, 2], "attention_mask": [1, None]}, "Row 0 .* an attention mask with the value None"),
        ({"input_ids": [1, 2], "attention_mask": [0, -1e9]}, "Row 0 .* with the value -1000000000.0"),
        (
            {"input_ids": [1, 2], "attention_mask": [1, 0], "student_positions": [1], "teacher_positions": [0]},
            "student_positions of row 0 .* leaves out",
        ),
    ],
)
def test_a_mask_that_is_no_padding_is_refused(made, message):
    with pytest.raises(ValueError, match=message):
        DistillationCollator(PADDED)([made])
