"""Tokens, labels and alignments land where they belong, for wordpiece, byte-level bpe and unigram tokenizers."""

import itertools
import logging
import re

import pytest
import tiny
from datasets import ClassLabel, Dataset, IterableDatasetDict, List, Value, load_from_disk
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers
from transformers import AutoTokenizer, CanineTokenizer, PreTrainedTokenizerFast
from transformers.utils.logging import warning_once

from retort import DistillTrainer, tokenize, tokenize_groups, tokenize_spans
from retort.data import same_tokenizer
from retort.data.tokenization.tokenization import Tokenization

KINDS = ("wordpiece", "bpe", "unigram")
TOKENIZERS = {kind: tiny.tokenizer(kind) for kind in KINDS}


def uncased():
    """A wordpiece tokenizer that lowercases, strips accents and drops control characters, as BERT's uncased one."""
    made = tiny.tokenizer()
    made.backend_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    return made


def texts(*values, **columns):
    return Dataset.from_dict({"text": list(values)} | columns)


def pieces(tokenizer, ids):
    return tokenizer.convert_ids_to_tokens(ids)


# --- Texts and pairs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_those_of_the_tokenizer_itself(kind):
    sentences = tiny.sentences(20)
    rows = tokenize(texts(*sentences), TOKENIZERS[kind], max_length=12)
    assert rows.column_names == ["input_ids", "length"]
    assert list(rows["input_ids"]) == TOKENIZERS[kind](sentences, truncation=True, max_length=12)["input_ids"]
    assert list(rows["length"]) == list(map(len, rows["input_ids"]))


def test_a_row_is_never_longer_than_the_tokenizers_model_allows(tokenizer):
    rows = tokenize(texts("cat " * 200), tokenizer, max_length=128)
    assert rows["length"][0] == tokenizer.model_max_length == 64


def test_pairs_carry_token_types_where_the_tokenizer_makes_them(tokenizer):
    data = texts("the cat", b=["a dog ran"])
    assert "token_type_ids" not in tokenize(data, tokenizer, text_pair="b").column_names
    typed = tiny.tokenizer()
    typed.model_input_names = [*typed.model_input_names, "token_type_ids"]
    assert tokenize(data, typed, text_pair="b")[0]["token_type_ids"] == [0] * 4 + [1] * (
        len(tokenizer.tokenize("a dog ran")) + 1
    )
    assert "token_type_ids" not in tokenize(data, typed).column_names
    # DistilBERT's tokenizer makes none, but its BERT teacher, which shares the tokens, reads them.
    shared = tokenize(data, tokenizer, teacher_tokenizer=typed, text_pair="b")
    assert shared.column_names == ["input_ids", "length", "token_type_ids"]


def test_labels_of_texts_are_passed_through_with_their_type(tokenizer):
    data = texts("a cat", "", "a dog", labels=[1, 0, 0]).cast_column("labels", ClassLabel(names=["no", "yes"]))
    rows = tokenize(data, tokenizer, labels="labels")
    assert list(rows["labels"]) == [1, 0]
    assert rows.features["labels"].names == ["no", "yes"]
    scores = tokenize(texts("a cat", score=[2.5]), tokenizer, labels="score")
    assert scores["labels"][0] == 2.5


def test_rows_without_text_are_left_out_and_counted(tokenizer, caplog):
    silent = uncased()  # drops zero-width spaces, so that nothing is left of the last row
    with caplog.at_level(logging.WARNING, logger="retort"):
        rows = tokenize(texts("a cat", "", "  \t", None, "\u200b"), silent)
    assert len(rows) == 1
    assert "4 of 5 rows have no text and were left out" in caplog.text


def test_rows_that_are_cut_are_counted_and_told_once_with_their_share(tokenizer, caplog):
    with caplog.at_level(logging.WARNING, logger="retort"):
        for _ in range(10):
            tokenize(texts("a cat", "cat " * 20, "the"), tokenizer, max_length=10)
    assert [record.getMessage() for record in caplog.records] == ["1 of 3 rows were cut at 10 tokens (33.3 %)."]


def test_the_tokenizers_own_settings_stay_as_they_were(tokenizer):
    before = tokenizer.backend_tokenizer.to_str()
    tokenize(texts("a cat"), tokenizer, max_length=10)
    assert tokenizer.backend_tokenizer.to_str() == before


# --- Words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_piece_of_each_word_carries_its_label(kind):
    words = ["the", "houses", "the", "Xy", "cat"]
    data = Dataset.from_dict({"words": [words], "tags": [[4, 3, 2, 1, 0]]})
    row = tokenize(data, TOKENIZERS[kind], words="words", labels="tags")[0]
    assert row["input_ids"] == TOKENIZERS[kind](" ".join(words))["input_ids"]
    assert [label for label in row["labels"] if label != -100] == [4, 3, 2, 1, 0]
    assert row["labels"][0] == row["labels"][-1] == -100
    encoding = TOKENIZERS[kind](" ".join(words), return_offsets_mapping=True)
    starts = [0, 4, 11, 15, 18]
    for label, (start, end) in zip(row["labels"], encoding["offset_mapping"], strict=True):
        if label != -100:
            assert start <= starts[4 - label] < end


def test_labels_of_words_by_hand(tokenizer):
    data = Dataset.from_dict({"words": [["the", "cats", "ran"]], "tags": [[1, 2, 3]]})
    row = tokenize(data, tokenizer, words="words", labels="tags")[0]
    assert pieces(tokenizer, row["input_ids"]) == ["[CLS]", "the", "cat", "##s", "ran", "[SEP]"]
    assert row["labels"] == [-100, 1, 2, -100, 3, -100]


@pytest.mark.parametrize("dropped", ["\u200b", "", " "])
def test_a_word_that_the_tokenizer_drops_stands_as_the_unknown_token(dropped, caplog):
    data = Dataset.from_dict({"words": [[dropped, "cat", dropped, "cat"]], "tags": [[1, 2, 3, 4]]})
    with caplog.at_level(logging.WARNING, logger="retort"):
        row = tokenize(data, uncased(), words="words", labels="tags")[0]
    assert pieces(uncased(), row["input_ids"]) == ["[CLS]", "[UNK]", "cat", "[UNK]", "cat", "[SEP]"]
    assert row["labels"] == [-100, 1, 2, 3, 4, -100]
    assert "2 of 4 words are dropped by the tokenizer" in caplog.text


def test_rows_of_words_that_are_too_long_lose_no_label_and_none_moves(tokenizer, caplog):
    words = [["cat"] * 9 + ["\u200b"], ["cat", "\u200b"]]
    data = Dataset.from_dict({"words": words, "tags": [list(range(10)), [0, 1]]})
    with caplog.at_level(logging.WARNING, logger="retort"):
        rows = tokenize(data, uncased(), words="words", labels="tags", max_length=6, stride=0)
    assert [row["labels"] for row in rows] == [
        [-100, 0, 1, 2, 3, -100],
        [-100, 4, 5, 6, 7, -100],
        [-100, 8, 9, -100],
        [-100, 0, 1, -100],
    ]
    assert [record.getMessage() for record in caplog.records] == [
        "2 of 12 words are dropped by the tokenizer and were replaced by its unknown token."
    ]


def test_of_two_words_in_one_token_the_first_gives_its_label(caplog):
    pieces = [("[UNK]", 0.0), ("[PAD]", 0.0), ("the cat", -1.0), (" ", -2.0), ("sat", -2.0)]
    spanning = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.Unigram(pieces, unk_id=0)), unk_token="[UNK]", pad_token="[PAD]"
    )
    data = Dataset.from_dict({"words": [["the", "cat", "sat"]], "tags": [[1, 2, 3]]})
    with caplog.at_level(logging.WARNING, logger="retort"):
        row = tokenize(data, spanning, words="words", labels="tags")[0]
    assert row["input_ids"] == [2, 3, 4]
    assert row["labels"] == [1, -100, 3]
    assert "1 of 3 words share a token" in caplog.text


# --- Two tokenizers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("align", [False, True])
def test_a_teacher_with_the_students_tokenizer_adds_no_column(tokenizer, align):
    rows = tokenize(texts("a cat"), tokenizer, teacher_tokenizer=tiny.tokenizer(), align=align)
    assert rows.column_names == ["input_ids", "length"]


def test_a_teacher_with_another_tokenizer_adds_its_tokens(tokenizer):
    rows = tokenize(texts("the cat  the"), tokenizer, teacher_tokenizer=TOKENIZERS["bpe"])
    assert rows.column_names == ["input_ids", "length", "teacher_input_ids"]
    assert rows[0]["teacher_input_ids"] == TOKENIZERS["bpe"]("the cat  the")["input_ids"]


def test_alignment_by_hand_with_repeated_words_accents_capitals_and_double_spaces():
    student, teacher = uncased(), TOKENIZERS["bpe"]
    row = tokenize(texts("the  Cát the bird\u200b  Thé"), student, teacher_tokenizer=teacher, align=True)[0]
    ours, theirs = (pieces(t, row[c]) for t, c in ((student, "input_ids"), (teacher, "teacher_input_ids")))
    assert ours == ["[CLS]", "the", "cat", "the", "bird", "the", "[SEP]"]
    assert row["student_positions"] == [1, 2, 3, 4, 5]
    # "Ġ" alone is a space; [UNK] are bytes that the small vocabulary lacks: one of C and of T, two of á and of é.
    assert theirs[1:10] == ["Ġthe", "Ġ", "Ġ", "[UNK]", "[UNK]", "[UNK]", "t", "Ġthe", "Ġbird"]
    assert row["teacher_positions"] == [1, 4, 8, 9, 15]


WORD = st.sampled_from([*tiny.WORDS[:8], "flying", "Thé", "CATS", "cät", "x", "the.", "…", "naïve-cat"])


@settings(max_examples=60)
@given(
    st.lists(WORD, min_size=1, max_size=12),
    st.lists(st.sampled_from([" ", "  ", "\t", "\u3000 "]), min_size=12, max_size=12),
    st.permutations([*KINDS, "uncased"]),
)
def test_aligned_tokens_begin_the_same_occurrence_of_a_word(words, gaps, kinds):
    text = "".join(gap + word for gap, word in zip(gaps, words, strict=False))
    student, teacher = (uncased() if kind == "uncased" else TOKENIZERS[kind] for kind in kinds[:2])
    row = tokenize(texts(text), student, teacher_tokenizer=teacher, align=True, max_length=64)[0]
    # The k-th word is where the whitespace before it says. Each side must start it there, words that were cut off
    # excepted, which are the last ones.
    starts = [
        sum(len(g) + len(w) for g, w in zip(gaps[:k], words[:k], strict=True)) + len(gaps[k]) for k in range(len(words))
    ]
    assert len(row["student_positions"]) == len(row["teacher_positions"])
    for tokenizer, positions in ((student, row["student_positions"]), (teacher, row["teacher_positions"])):
        offsets = tokenizer(text, return_offsets_mapping=True, truncation=True, max_length=64)["offset_mapping"]
        for start, position in zip(starts, positions, strict=False):
            assert offsets[position][0] <= start < offsets[position][1]
            assert all(end <= start for _, end in offsets[1:position])
    if max(row["length"], len(row["teacher_input_ids"])) < 64:
        assert len(row["student_positions"]) == len(words)


@pytest.mark.parametrize(("student", "teacher"), itertools.permutations(KINDS, 2))
def test_given_words_are_aligned_with_their_labels(student, teacher):
    words = ["the", "cat", "\u200b", "the", "Houses", "cat", ""]
    data = Dataset.from_dict({"words": [words], "tags": [list(range(7))]})
    row = tokenize(
        data, TOKENIZERS[student], teacher_tokenizer=TOKENIZERS[teacher], words="words", labels="tags", align=True
    )[0]
    assert [row["labels"][i] for i in row["student_positions"]] == list(range(7))
    assert len(set(row["teacher_positions"])) == 7


def test_both_texts_of_a_pair_are_aligned(tokenizer):
    teacher = TOKENIZERS["unigram"]
    row = tokenize(
        texts("the cat", b=["cat the cat"]), tokenizer, teacher_tokenizer=teacher, text_pair="b", align=True
    )[0]
    assert pieces(tokenizer, [row["input_ids"][i] for i in row["student_positions"]]) == [
        "the",
        "cat",
        "cat",
        "the",
        "cat",
    ]
    separator = row["teacher_input_ids"].index(teacher.sep_token_id)
    assert [position > separator for position in row["teacher_positions"]] == [False, False, True, True, True]


def test_words_without_a_counterpart_are_counted(tokenizer, caplog):
    with caplog.at_level(logging.WARNING, logger="retort"):
        row = tokenize(
            texts("stone " * 9), tokenizer, teacher_tokenizer=TOKENIZERS["unigram"], align=True, max_length=12
        )[0]
    missing = 9 - len(row["student_positions"])
    assert missing > 0
    assert f"{missing} of 9 words have no counterpart" in caplog.text


def test_same_tokenizer_compares_behaviour(tmp_path):
    one, other = tiny.tokenizer(), tiny.tokenizer()
    assert same_tokenizer(one, one)
    one("a cat", truncation=True, padding="max_length", max_length=9)
    assert same_tokenizer(one, other)
    one.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert same_tokenizer(loaded, other)
    assert not same_tokenizer(one, uncased())
    loaded.add_tokens(["houseboat"])
    assert not same_tokenizer(one, loaded)
    assert not same_tokenizer(one, TOKENIZERS["bpe"])
    other.pad_token = "[MASK]"
    assert not same_tokenizer(one, other)


# --- The cache -------------------------------------------------------------------------------------------------------


@pytest.fixture
def on_disk(tmp_path):
    texts(*tiny.sentences(30), labels=[0] * 30).save_to_disk(str(tmp_path / "data"))
    return lambda: load_from_disk(str(tmp_path / "data"))


def test_the_same_call_again_comes_from_the_cache(on_disk, monkeypatch, caplog):
    first = tokenize(on_disk(), tiny.tokenizer(), max_length=8)
    caplog.clear()
    warning_once.cache_clear()
    monkeypatch.setattr(Tokenization, "__call__", None)
    used = tiny.tokenizer()
    used("a cat", truncation=True, max_length=5)
    again = tokenize(on_disk(), used, max_length=8)
    assert again[:] == first[:]
    assert "rows were cut at 8 tokens" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"tokenizer": uncased()},
        {"max_length": 7},
        {"labels": "labels"},
        {"teacher_tokenizer": TOKENIZERS["bpe"]},
        {"teacher_tokenizer": TOKENIZERS["bpe"], "align": True},
    ],
    ids=lambda change: "-".join(change),
)
def test_another_call_does_not(on_disk, change, monkeypatch):
    arguments = {"tokenizer": tiny.tokenizer(), "max_length": 8}
    tokenize(on_disk(), **arguments)
    if "align" in change:
        tokenize(on_disk(), **arguments, teacher_tokenizer=TOKENIZERS["bpe"])

    def ran(*args):
        raise ZeroDivisionError

    monkeypatch.setattr(Tokenization, "__call__", ran)
    with pytest.raises(ZeroDivisionError):
        tokenize(on_disk(), **arguments | change)


def test_several_processes_give_what_one_gives(on_disk, tokenizer):
    alone = tokenize(on_disk(), tokenizer, teacher_tokenizer=TOKENIZERS["bpe"], align=True)
    assert (
        tokenize(texts(*on_disk()["text"]), tokenizer, teacher_tokenizer=TOKENIZERS["bpe"], align=True, num_proc=2)[:]
        == alone[:]
    )


# --- Bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("columns", "arguments", "message"),
    [
        ({"t": ["a"]}, {}, "no column 'text', only t"),
        ({"text": ["a"]}, {"labels": "y"}, "no column 'y', only text"),
        ({"text": ["a"]}, {"text_pair": "b"}, "no column 'b'"),
        ({"text": ["a"]}, {"words": "w"}, "no column 'w'"),
        ({"text": ["a"], "b": ["a"], "w": [["a"]]}, {"text_pair": "b", "words": "w"}, "exclude each other"),
        ({"text": [3]}, {}, r"Row 0 must have a text in the column 'text', but has 3"),
        ({"text": ["", " "]}, {}, "None of the 2 rows has any text"),
        ({"text": ["a"]}, {"max_length": 2}, "max_length=2 leaves no room for text.* adds 2 special tokens"),
        ({"text": ["a"], "y": ["no"]}, {"labels": "y"}, "one number per row.*class_encode_column"),
        (
            {"text": ["a"], "y": [[1, 0, 1]]},
            {"labels": "y"},
            r"a list of floats, but the column 'y' holds List\(Value\('int64'\)\).*float for each class.*pass words=",
        ),
        ({"text": ["a", "b"], "y": [1, None]}, {"labels": "y"}, "Row 1 has no label"),
        ({"w": ["a b"]}, {"words": "w"}, "Row 0 must have a list of words in the column 'w', but has 'a b'"),
        ({"w": [["a"], ["a", "b"]], "y": [[1], [1]]}, {"words": "w", "labels": "y"}, "Row 1 has 2 words, but 1 labels"),
        ({"text": ["a"], "y": [1]}, {"labels": "y", "stride": 2}, "stride= is for rows of words, or of texts without"),
        ({"text": ["a"], "b": ["a"]}, {"text_pair": "b", "stride": 2}, "stride= is for rows of words"),
        ({"w": [["a"]]}, {"words": "w", "max_length": 9, "stride": 7}, "stride=7, but a window has 7 tokens of text"),
        ({"w": [["a"]]}, {"words": "w", "stride": -1}, "stride=-1, but a window has 62 tokens .* from 0 to 61"),
        ({"w": [["a"]]}, {"words": "w", "stride": "16"}, "stride='16', but a window has"),
        ({"w": [["a"]], "y": [["B-X"]]}, {"words": "w", "labels": "y"}, "Row 0: labels of words must be integers"),
    ],
)
def test_bad_rows_are_errors_that_name_them(tokenizer, columns, arguments, message):
    with pytest.raises(ValueError, match=message):
        tokenize(Dataset.from_dict(columns), tokenizer, **arguments)


@pytest.mark.promise(9)
def test_slow_tokenizers_and_dataset_dicts_are_errors(tokenizer):
    with pytest.raises(ValueError, match="CanineTokenizer is a slow tokenizer"):
        tokenize(texts("a"), CanineTokenizer())
    with pytest.raises(ValueError, match=r"got a dict.*one split"):
        tokenize({"train": texts("a")}, tokenizer)
    with pytest.raises(ValueError, match=r"got a list\. Make one, such as datasets.Dataset.from_dict"):
        tokenize(["a"], tokenizer)


@pytest.mark.promise(9)
@pytest.mark.parametrize("make", [tokenize, tokenize_groups, tokenize_spans])
def test_streams_and_dicts_of_them_are_errors(make, tokenizer):
    stream = texts("a").to_iterable_dataset()
    with pytest.raises(ValueError, match=r"got a IterableDataset\. Load it without streaming=True\. Or.*stream\.map"):
        make(stream, tokenizer)
    with pytest.raises(ValueError, match=r"got a IterableDatasetDict\. Pass one split of it"):
        make(IterableDatasetDict(train=stream), tokenizer)


def test_a_stream_that_is_tokenized_as_the_message_says_is_learnt_as_its_rows_are(tokenizer, tmp_path):
    data = texts(*tiny.sentences(8), label=[i % 3 for i in range(8)])
    with pytest.raises(ValueError, match="streaming=True") as refused:
        tokenize(data.to_iterable_dataset(), tokenizer)
    call = re.search(r"stream\.map\(lambda row: .*?\}\)", str(refused.value))[0]
    stream = eval(call, {"stream": data.to_iterable_dataset(), "tokenizer": tokenizer})
    losses = []
    for rows in (stream, tokenize(data, tokenizer, labels="label")):
        args = tiny.arguments(tmp_path, label_weight=1.0, max_steps=1, save_strategy="no", disable_dropout=True)
        student = tiny.model("bert", "sequence")
        trainer = DistillTrainer(student, args=args, train_dataset=rows, processing_class=tokenizer)
        losses.append(trainer.train().training_loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize("labels", [[[1, 0, 1], [0, 0, 1]], [[0, 2], [2]]], ids=["0 or 1", "ids"])
def test_labels_of_several_classes_are_floats_after_what_the_message_says(labels, tokenizer):
    data = texts("a", "b", y=labels)
    with pytest.raises(ValueError, match="number_of_classes") as refused:
        tokenize(data, tokenizer, labels="y")
    calls = re.findall(r"dataset\.(?:cast_column|map)\(.*\)(?=\.)", str(refused.value).replace(". ", ".\n"))
    names = {"dataset": data, "List": List, "Value": Value, "number_of_classes": 3}
    made = eval(calls[len(labels[1]) == 1], names)
    rows = tokenize(made, tokenizer, labels="targets" if "targets" in made.column_names else "y")
    assert rows["labels"][:] == [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]


@pytest.mark.promise(9)
def test_a_dropped_word_is_an_error_where_nothing_can_stand_for_it():
    silent = uncased()
    silent.unk_token = None
    data = Dataset.from_dict({"words": [["cat", "\u200b"]]})
    with pytest.raises(ValueError, match=r"has no token for the word '\\u200b'.*no unknown token"):
        tokenize(data, silent, words="words")
