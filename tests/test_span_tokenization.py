"""Rows of two tokenizers' tokens hold the same characters on both sides, and say which of them go together."""

import itertools
import logging

import pytest
import tiny
from datasets import Dataset, DatasetDict, load_from_disk
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import CanineTokenizer, PreTrainedTokenizerFast

from retort.data import tokenize_spans
from retort.data.tokenization.tokenization import Tokenization


def of_bytes():
    """Byte level, a token for each byte: nothing is unknown, and nothing is added."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64)


def uncased():
    """A wordpiece tokenizer that drops control characters, as BERT's uncased one."""
    made = tiny.tokenizer()
    made.backend_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    return made


BYTES = of_bytes()
KINDS = ("wordpiece", "bpe", "unigram")
TOKENIZERS = {kind: tiny.tokenizer(kind) for kind in KINDS}
COLUMNS = ["input_ids", "teacher_input_ids", "spans", "teacher_spans", "span_words", "span_characters"]


def texts(*values):
    return Dataset.from_dict({"text": list(values)})


def as_text(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


# --- Rows ------------------------------------------------------------------------------------------------------------


def test_columns_by_hand(tokenizer):
    data = Dataset.from_dict({"text": ["the dog,cat"], "other": [1]})
    rows = tokenize_spans(data, tokenizer, teacher_tokenizer=BYTES)
    assert sorted(rows.column_names) == sorted([*COLUMNS, "length", "text_id"])
    row = rows[0]
    pieces = ["[CLS]", "the", "d", "##o", "##g", "[UNK]", "cat", "[SEP]"]
    assert tokenizer.convert_ids_to_tokens(row["input_ids"]) == pieces
    assert "".join(BYTES.convert_ids_to_tokens(row["teacher_input_ids"])) == "theĠdog,cat"
    # Each letter of "dog" is a token on both sides, the first along with the space; BYTES has no special tokens.
    assert row["spans"] == [-1, 0, 1, 2, 3, 4, 5, -1]
    assert row["teacher_spans"] == [0, 0, 0, -1, 1, 2, 3, 4, 5, 5, 5]
    assert row["span_words"] == [0, 1, 1, 1, 1, 1]
    assert row["span_characters"] == [3, 1, 1, 1, 1, 3]
    assert row["length"] == 8


def test_without_a_teachers_tokenizer_each_token_is_its_own_span(tokenizer):
    rows = tokenize_spans(texts("the dog"), tokenizer)
    assert sorted(rows.column_names) == sorted(
        ["input_ids", "spans", "span_words", "span_characters", "length", "text_id"]
    )
    assert rows[0]["input_ids"] == tokenizer("the dog")["input_ids"]
    assert rows[0]["spans"] == [4, 0, 1, 2, 3, 5]
    assert rows[0]["span_words"] == [0, 1, 1, 1, -1, -1]
    assert rows[0]["span_characters"] == [3, 1, 1, 1, 0, 0]


@pytest.mark.parametrize(("student", "teacher"), itertools.permutations(KINDS, 2))
def test_rows_that_fit_are_those_of_both_tokenizers_themselves(student, teacher):
    student, teacher = TOKENIZERS[student], TOKENIZERS[teacher]
    sentences = tiny.sentences(20, longest=6)
    rows = tokenize_spans(texts(*sentences), student, teacher_tokenizer=teacher, max_length=64)
    assert list(rows["input_ids"]) == student(sentences)["input_ids"]
    assert list(rows["teacher_input_ids"]) == teacher(sentences)["input_ids"]


def test_a_text_has_the_same_number_whatever_the_tokenizers_and_other_texts_have_others(tokenizer):
    sentences = ["the cat", "the dog", "the cat", "The cat", "the cat "]
    numbers = {
        tuple(tokenize_spans(texts(*sentences), tokenizer, teacher_tokenizer=teacher, max_length=length)["text_id"])
        for teacher, length in [(None, 64), (BYTES, 64), (BYTES, 30), (TOKENIZERS["unigram"], 64)]
    }
    assert len(numbers) == 1
    (numbers,) = numbers
    assert numbers[0] == numbers[2]
    assert len(set(numbers)) == 4


# --- What is left out ------------------------------------------------------------------------------------------------


def test_rows_without_text_are_left_out():
    rows = tokenize_spans(texts("the cat", "", " \t", None, "\u200b", "the dog"), uncased(), teacher_tokenizer=BYTES)
    assert [as_text(BYTES, ids) for ids in rows["teacher_input_ids"]] == ["the cat", "the dog"]


def test_rows_of_which_the_tokenizers_keep_different_characters_are_left_out():
    letters = Tokenizer(models.BPE({"\u200b": 0, "a": 1}, []))  # drops what it doesn't know
    rows = tokenize_spans(
        texts("\u200bthe", "a"), uncased(), teacher_tokenizer=PreTrainedTokenizerFast(tokenizer_object=letters)
    )
    assert list(rows["teacher_input_ids"]) == [[1]]


@pytest.mark.parametrize("unknown_to_student", [True, False])
def test_rows_most_of_which_is_unknown_to_either_side_are_left_out_and_counted(tokenizer, caplog, unknown_to_student):
    pair = (tokenizer, BYTES) if unknown_to_student else (BYTES, tokenizer)
    with caplog.at_level(logging.WARNING, logger="retort"):
        rows = tokenize_spans(texts("мир the мир", "мир the", "the"), pair[0], teacher_tokenizer=pair[1])
    column = "teacher_input_ids" if unknown_to_student else "input_ids"
    assert [as_text(BYTES, ids) for ids in rows[column]] == ["мир the", "the"]
    assert "1 of 3 rows were left out: most of their tokens are unknown" in caplog.text


def test_nothing_is_logged_where_nothing_is_lost_but_how_much_is_alike(tokenizer, caplog):
    with caplog.at_level(logging.INFO, logger="retort"):
        tokenize_spans(texts("the dog cat", "the"), tokenizer, teacher_tokenizer=tiny.tokenizer("bpe"), max_length=64)
        tokenize_spans(texts("the dog cat"), tokenizer, teacher_tokenizer=BYTES)
    messages = [record.message for record in caplog.records if record.name.startswith("retort")]
    assert len(messages) == 2
    # Of the, d, o, g and cat.
    assert messages[1] == "3 of 5 spans are one token on both sides."


# --- Long texts ------------------------------------------------------------------------------------------------------


def test_a_long_text_becomes_rows_cut_between_the_same_words(tokenizer, caplog):
    with caplog.at_level(logging.WARNING, logger="retort"):
        rows = tokenize_spans(
            texts("the cat under the tree  ran on", "the cat"), tokenizer, teacher_tokenizer=BYTES, max_length=14
        )
    assert [as_text(tokenizer, ids) for ids in rows["input_ids"]] == ["the cat under", "the tree ran", "on", "the cat"]
    # Spaces go to the part after them.
    assert [as_text(BYTES, ids) for ids in rows["teacher_input_ids"]] == [
        "the cat under",
        " the tree  ran",
        " on",
        "the cat",
    ]
    assert list(rows["span_words"]) == [[0, 1, 2]] * 2 + [[0], [0, 1]]
    assert len(set(rows["text_id"])) == 4
    assert not caplog.text


@pytest.mark.parametrize("room", [8, 25])
@pytest.mark.parametrize("kind", KINDS)
def test_parts_hold_every_character_once_and_the_same_on_both_sides(kind, room):
    long = [f"{text}  {text}\n\t{text}" for text in tiny.sentences(20)]
    rows = tokenize_spans(texts(*long), TOKENIZERS[kind], teacher_tokenizer=BYTES, max_length=room + 2)
    assert len(rows) > 60
    assert max(rows["length"]) <= room + 2
    assert max(map(len, rows["teacher_input_ids"])) <= room + 2
    letters = ["".join(as_text(BYTES, ids).split()) for ids in rows["teacher_input_ids"]]
    assert "".join(letters) == "".join("".join(long).split())
    assert ["".join(as_text(TOKENIZERS[kind], ids).split()) for ids in rows["input_ids"]] == letters
    assert list(map(sum, rows["span_characters"])) == list(map(len, letters))


def test_a_token_of_more_letters_than_the_other_side_has_room_for_is_cut_and_counted(tokenizer, caplog):
    with caplog.at_level(logging.WARNING, logger="retort"):
        rows = tokenize_spans(texts("cat under"), tokenizer, teacher_tokenizer=BYTES, max_length=4)
    assert [as_text(BYTES, ids) for ids in rows["teacher_input_ids"]] == ["cat", "unde"]
    assert list(rows["spans"]) == [[-1, 0, -1]] * 2
    assert "1 of 2 rows have a word that is too long and were truncated" in caplog.text


def test_a_part_that_has_a_token_more_by_itself_is_cut_again(tokenizer, caplog):
    spaced = of_bytes()  # puts a space before what begins with none, and a tab is none
    spaced.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    with caplog.at_level(logging.WARNING, logger="retort"):
        rows = tokenize_spans(texts("cat\tthe\tat"), tokenizer, teacher_tokenizer=spaced, max_length=7)
    assert [as_text(spaced, ids) for ids in rows["teacher_input_ids"]] == [" cat", " \tthe", " \tat"]
    assert not caplog.text


def test_a_row_is_never_longer_than_either_tokenizers_model_allows(tokenizer):
    short = of_bytes()
    short.model_max_length = 20
    rows = tokenize_spans(texts("cat " * 90), tokenizer, teacher_tokenizer=short, max_length=128)
    assert max(map(len, rows["teacher_input_ids"])) == 20  # five words and the space before each
    assert max(rows["length"]) == 7
    rows = tokenize_spans(texts("cat " * 90), tokenizer, max_length=128)
    assert max(rows["length"]) == tokenizer.model_max_length == 64


# --- The cache -------------------------------------------------------------------------------------------------------


@pytest.fixture
def on_disk(tmp_path):
    data = {"text": [*tiny.sentences(30), "мир"], "other": tiny.sentences(31, seed=1)}
    Dataset.from_dict(data).save_to_disk(str(tmp_path / "data"))
    return lambda: load_from_disk(str(tmp_path / "data"))


def test_the_same_call_again_comes_from_the_cache(on_disk, monkeypatch, caplog):
    first = tokenize_spans(on_disk(), tiny.tokenizer(), teacher_tokenizer=BYTES, max_length=32)
    caplog.clear()
    monkeypatch.setattr(Tokenization, "__call__", None)
    used = tiny.tokenizer()
    used("a cat", truncation=True, max_length=5)
    again = tokenize_spans(on_disk(), used, teacher_tokenizer=of_bytes(), max_length=32)
    assert again[:] == first[:]
    assert "rows were left out" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"tokenizer": uncased()},
        {"max_length": 31},
        {"text": "other"},
        {"teacher_tokenizer": TOKENIZERS["bpe"]},
        {"teacher_tokenizer": None},
        {"rows": 5},
    ],
    ids=lambda change: "-".join(change),
)
def test_another_call_does_not(on_disk, change, monkeypatch):
    arguments = {"tokenizer": tiny.tokenizer(), "teacher_tokenizer": BYTES, "max_length": 32}
    tokenize_spans(on_disk(), **arguments)

    def ran(*args):
        raise ZeroDivisionError

    monkeypatch.setattr(Tokenization, "__call__", ran)
    arguments |= change
    rows = arguments.pop("rows", None)
    data = on_disk().select(range(rows)) if rows else on_disk()
    with pytest.raises(ZeroDivisionError):
        tokenize_spans(data, **arguments)


def test_a_teacher_with_the_students_tokenizer_is_not_taken_for_none(on_disk, tokenizer):
    assert "teacher_spans" not in tokenize_spans(on_disk(), tokenizer).column_names
    assert "teacher_spans" in tokenize_spans(on_disk(), tokenizer, teacher_tokenizer=tokenizer).column_names


def test_several_processes_give_what_one_gives(on_disk, tokenizer):
    alone = tokenize_spans(on_disk(), tokenizer, teacher_tokenizer=BYTES, max_length=24)
    data = texts(*on_disk()["text"])
    assert tokenize_spans(data, tokenizer, teacher_tokenizer=BYTES, max_length=24, num_proc=2)[:] == alone[:]


def test_the_tokenizers_own_settings_stay_as_they_were(tokenizer):
    before = tokenizer.backend_tokenizer.to_str()
    tokenize_spans(texts("the cat " * 20), tokenizer, teacher_tokenizer=BYTES, max_length=10)
    assert tokenizer.backend_tokenizer.to_str() == before


# --- Bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("columns", "arguments", "message"),
    [
        ({"t": ["a"], "u": ["b"]}, {}, "no column 'text', only t, u"),
        ({"text": ["a"]}, {"text": "body"}, "no column 'body', only text"),
        ({"text": [None, 3]}, {}, "Row 1 must be a text, but is 3"),
        ({"text": [["a", "b"]]}, {}, r"Row 0 must be a text, but is \['a', 'b'\]"),
        ({"text": ["", " "]}, {}, "None of the 2 rows has text that both tokenizers know"),
        ({"text": ["мир"]}, {}, "None of the 1 rows has text that both tokenizers know"),
        ({"text": ["a"]}, {"max_length": 2}, "max_length=2 leaves no room for text.* adds 2 special tokens"),
        ({"text": ["a"]}, {"teacher_tokenizer": CanineTokenizer()}, "CanineTokenizer is a slow tokenizer"),
    ],
)
def test_bad_rows_and_arguments_are_errors_that_name_them(tokenizer, columns, arguments, message):
    with pytest.raises(ValueError, match=message):
        tokenize_spans(Dataset.from_dict(columns), tokenizer, **arguments)


@pytest.mark.promise(9)
def test_a_dataset_of_another_kind_is_an_error(tokenizer):
    with pytest.raises(ValueError, match=r"Expected a datasets\.Dataset, but got a IterableDataset"):
        tokenize_spans(texts("a").to_iterable_dataset(), tokenizer)
    with pytest.raises(ValueError, match="got a DatasetDict"):
        tokenize_spans(DatasetDict(train=texts("a")), tokenizer)
    with pytest.raises(ValueError, match="CanineTokenizer is a slow tokenizer"):
        tokenize_spans(texts("a"), CanineTokenizer())
