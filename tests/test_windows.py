"""Rows that are longer than a model reads: every word in a window of its own, and nothing of it twice."""

import logging
import math

import pytest
import tiny
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerFast

from retort import DistillTrainer, tokenize
from retort.data.tokenization import stride_within

KINDS = ("wordpiece", "bpe", "unigram")
TOKENIZERS = {kind: tiny.tokenizer(kind) for kind in (*KINDS, "wordpiece, other words")}
WORD = st.sampled_from([*tiny.WORDS[:12], "houses", "Xy", "flying-cat", "z" * 9, "…"])
ROWS = st.lists(st.lists(WORD, min_size=1, max_size=60), min_size=1, max_size=4)


def tagged(rows):
    """Rows of words, each of which has its number as label."""
    return Dataset.from_dict({"words": rows, "labels": [list(range(len(row))) for row in rows]})


def word_starts(words):
    """The first character of each word in the text that they make."""
    return [sum(map(len, words[:index])) + index for index in range(len(words))]


def overlapping(tokenizer, text, max_length, stride):
    """The windows that the tokenizer itself makes of a text."""
    return tokenizer(
        text,
        truncation=True,
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )


def widest(words, whole, windows, room, stride):
    """For each word the window in which its first piece is farthest from a cut, found by trying all of them."""
    tokens = [span for span in whole["offset_mapping"] if span != (0, 0)]
    firsts = [next(i for i, (a, b) in enumerate(tokens) if a <= start < b) for start in word_starts(words)]
    found = []
    for first in firsts:
        contexts = []
        for window in range(windows):
            begin, end = window * (room - stride), min(window * (room - stride) + room, len(tokens))
            left = math.inf if window == 0 else first - begin
            right = math.inf if window == windows - 1 else end - 1 - first
            contexts.append(min(left, right) if begin <= first < end else -1)
        found.append(contexts.index(max(contexts)))
    return found


# --- One tokenizer ----------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(ROWS, st.sampled_from(KINDS), st.integers(6, 40), st.data())
def test_windows_are_those_of_the_tokenizer_and_each_word_is_learnt_where_its_context_is_widest(
    rows, kind, max_length, data
):
    tokenizer, room = TOKENIZERS[kind], max_length - 2
    stride = data.draw(st.integers(0, room - 1))
    made = tokenize(
        tagged(rows), tokenizer, words="words", labels="labels", max_length=max_length, stride=stride
    ).with_format(None)
    place = 0
    for words in rows:
        expected = overlapping(tokenizer, " ".join(words), max_length, stride)
        windows = made[place : place + len(expected["input_ids"])]
        place += len(expected["input_ids"])
        assert windows["input_ids"] == expected["input_ids"]
        assert windows["length"] == list(map(len, expected["input_ids"]))
        owner = {}
        for number, labels in enumerate(windows["labels"]):
            for position, word in enumerate(labels):
                if word != -100:
                    assert word not in owner
                    owner[word] = number
                    start, end = expected["offset_mapping"][number][position]
                    assert start <= word_starts(words)[word] < end
        whole = tokenizer(" ".join(words), return_offsets_mapping=True)
        count = len(expected["input_ids"])
        assert [owner[word] for word in range(len(words))] == widest(words, whole, count, room, stride)
    assert place == len(made)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_fit_are_the_same_whatever_the_stride(kind):
    rows = [text.split() for text in tiny.sentences(20, longest=5)]
    made = [
        tokenize(tagged(rows), TOKENIZERS[kind], words="words", labels="labels", max_length=64, **given)[:]
        for given in ({}, {"stride": 0}, {"stride": 61})
    ]
    assert made[0] == made[1] == made[2]
    assert made[0]["input_ids"] == TOKENIZERS[kind]([" ".join(words) for words in rows])["input_ids"]


def test_by_default_windows_share_a_quarter_of_their_text(tokenizer):
    made = tokenize(tagged([["the"] * 20]), tokenizer, words="words", max_length=10)
    assert list(made["length"]) == [10, 10, 10]  # from words 0, 6 and 12
    assert stride_within(None, 10, tokenizer) == 2
    assert stride_within(None, 1000, tokenizer) == 62 // 4


def test_a_word_that_is_longer_than_a_window_has_its_label_at_its_first_piece(tokenizer):
    made = tokenize(tagged([["the", "x" * 30, "cat"]]), tokenizer, words="words", labels="labels", max_length=8)
    assert [label for labels in made["labels"] for label in labels if label != -100] == [0, 1, 2]
    first = next(row for row in made if 1 in row["labels"])
    assert tokenizer.convert_ids_to_tokens(first["input_ids"][first["labels"].index(1)]) == "x"


def test_texts_become_windows_only_with_a_stride(tokenizer):
    text = " ".join(tiny.WORDS)
    texts = Dataset.from_dict({"text": [text, "the cat"]})
    made = tokenize(texts, tokenizer, max_length=12, stride=3)
    expected = overlapping(tokenizer, text, 12, 3)["input_ids"]
    assert list(made["input_ids"]) == [*expected, tokenizer("the cat")["input_ids"]]
    assert made.column_names == ["input_ids", "length"]
    assert len(tokenize(texts, tokenizer, max_length=12)) == 2


def test_the_log_tells_how_many_rows_became_how_many_windows(tokenizer, caplog):
    rows = [["the"] * 20, ["cat"], []]
    with caplog.at_level(logging.INFO, logger="retort"):
        tokenize(tagged(rows), tokenizer, words="words", labels="labels", max_length=10)
    assert [record.getMessage() for record in caplog.records if record.name.startswith("retort")] == [
        "1 of 3 rows have no text and were left out.",
        "Rows of more than 10 tokens were split into windows that share 2 tokens: 2 rows became 4.",
    ]


# --- Two tokenizers ---------------------------------------------------------------------------------------------------


def stretch(row, whole):
    """Where the tokens of a window, without special ones, stand in the whole text."""
    inner = row[1:-1]
    return [start for start in range(len(whole)) if whole[start : start + len(inner)] == inner]


@settings(max_examples=60)
@given(
    st.lists(WORD, min_size=1, max_size=60),
    st.permutations(list(TOKENIZERS)),
    st.integers(12, 40),
    st.integers(0, 9),
)
def test_both_models_read_the_same_words_in_a_window_and_each_is_aligned_once(words, kinds, max_length, stride):
    student, teacher = (TOKENIZERS[kind] for kind in kinds[:2])
    arguments = {"words": "words", "labels": "labels", "max_length": max_length, "stride": stride, "align": True}
    made = tokenize(tagged([words]), student, teacher_tokenizer=teacher, **arguments)
    text, starts, seen = " ".join(words), word_starts(words), []
    sides = {
        "input_ids": student(text, return_offsets_mapping=True),
        "teacher_input_ids": teacher(text, return_offsets_mapping=True),
    }
    for row in made:
        aligned = [row["labels"][position] for position in row["student_positions"]]
        assert aligned == [label for label in row["labels"] if label != -100]
        seen += aligned
        begins = []
        for column, positions in (("input_ids", "student_positions"), ("teacher_input_ids", "teacher_positions")):
            assert len(row[column]) <= max_length
            whole, offsets = sides[column]["input_ids"], sides[column]["offset_mapping"]
            # Of all places where these tokens stand, one has the words of these labels at the aligned positions.
            fits = [
                place
                for place in stretch(row[column], whole[1:-1])
                if all(
                    offsets[place + position][0] <= starts[word] < offsets[place + position][1]
                    and offsets[place + position - 1][1] <= starts[word]
                    for word, position in zip(aligned, row[positions], strict=True)
                )
            ]
            assert fits
            begins.append({bisected(starts, offsets[place + 1]) for place in fits})
        assert begins[0] & begins[1]
    assert sorted(seen) == list(range(len(words)))


def bisected(starts, span):
    """The word that a token is the first piece of, or that it stands in."""
    return sum(start < span[1] for start in starts) - 1


def test_a_teacher_with_many_more_tokens_makes_windows_smaller_and_not_one_for_each_word():
    student, teacher = TOKENIZERS["wordpiece"], tiny.tokenizer()
    teacher.backend_tokenizer.normalizer = normalizers.Replace("the", "abcdefgh")  # the letters of an unknown word
    words = ["the"] * 100
    made = tokenize(
        tagged([words]), student, teacher_tokenizer=teacher, words="words", labels="labels", align=True, max_length=34
    )
    # The teacher's windows hold four words of eight tokens, and share one of them.
    assert [len(row["input_ids"]) for row in made] == [6] * 33
    assert sorted(label for labels in made["labels"] for label in labels if label != -100) == list(range(100))


def test_two_words_in_one_token_of_the_teacher_are_not_parted():
    pieces = [("[UNK]", 0.0), ("[PAD]", 0.0), ("the cat", -1.0), (" ", -2.0)]
    teacher = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.Unigram(pieces, unk_id=0)), unk_token="[UNK]", pad_token="[PAD]"
    )
    arguments = {"words": "words", "labels": "labels", "align": True, "max_length": 7, "stride": 0}
    made = tokenize(tagged([["the", "cat"] * 5]), TOKENIZERS["wordpiece"], teacher_tokenizer=teacher, **arguments)
    # The student has room for five words, but a cut after the fifth would leave the teacher's token on one side.
    assert [[label for label in labels if label != -100] for labels in made["labels"]] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
    ]
    assert list(made["teacher_input_ids"]) == [[2, 3, 2, 3], [2, 3, 2, 3], [2]]
    assert list(made["teacher_positions"]) == [[0, 0, 2, 2], [0, 0, 2, 2], [0, 0]]


def test_a_word_that_one_model_cant_read_whole_is_cut_and_counted(caplog):
    words = ["the", "z" * 40, "cat"]
    with caplog.at_level(logging.WARNING, logger="retort"):
        made = tokenize(
            tagged([words]),
            TOKENIZERS["wordpiece"],
            teacher_tokenizer=TOKENIZERS["bpe"],
            words="words",
            labels="labels",
            align=True,
            max_length=12,
        )
    assert sorted(label for labels in made["labels"] for label in labels if label != -100) == [0, 1, 2]
    assert sum(map(len, made["student_positions"])) == 3
    assert max(map(len, [*made["input_ids"], *made["teacher_input_ids"]])) == 12
    assert "were cut at 12 tokens" in caplog.text


def test_a_word_that_one_tokenizer_drops_is_counted_among_those_without_a_counterpart(caplog):
    student = tiny.tokenizer()
    student.backend_tokenizer.normalizer = normalizers.BertNormalizer()  # drops zero-width spaces
    texts = Dataset.from_dict({"text": ["cat " * 10 + "\u200b"]})
    with caplog.at_level(logging.WARNING, logger="retort"):
        made = tokenize(texts, student, teacher_tokenizer=TOKENIZERS["bpe"], align=True, max_length=8, stride=2)
    assert sum(map(len, made["student_positions"])) == 10
    assert "1 of 11 words have no counterpart" in caplog.text


# --- Training ---------------------------------------------------------------------------------------------------------


def test_the_loss_of_long_rows_is_the_mean_over_their_words(tmp_path, tokenizer):
    """Each word by hand: the cross-entropy at its first piece in the window where its context is widest."""
    rows = [(tiny.WORDS * 3)[:70], tiny.WORDS[:5], tiny.WORDS[10:40]]
    labels = [[len(word) % 3 for word in words] for words in rows]
    data = Dataset.from_dict({"words": rows, "labels": labels})
    made = tokenize(data, tokenizer, words="words", labels="labels", max_length=20, stride=6)
    model = tiny.model("bert", "token")
    losses = []
    for words, classes in zip(rows, labels, strict=True):
        text = " ".join(words)
        windows = overlapping(tokenizer, text, 20, 6)
        whole = tokenizer(text, return_offsets_mapping=True)
        owners = widest(words, whole, len(windows["input_ids"]), 18, 6)
        for start, owner, label in zip(word_starts(words), owners, classes, strict=True):
            ids, spans = windows["input_ids"][owner], windows["offset_mapping"][owner]
            position = next(i for i, (a, b) in enumerate(spans) if a <= start < b)
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids])).logits[0, position].double()
            losses.append(float(torch.nn.functional.cross_entropy(logits, torch.tensor(label))))
    args = tiny.arguments(tmp_path, label_weight=1.0, per_device_eval_batch_size=2)
    trainer = DistillTrainer(model, None, args, train_dataset=made, eval_dataset=made, processing_class=tokenizer)
    assert len(losses) == 105
    assert trainer.evaluate()["eval_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
