"""What is valid is read, whoever wrote it; headers and columns go by one rule; what is not plausible is refused."""

import csv
import io
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
from datasets import Dataset, Features, LargeList, List, Value

from retort import read_dataset, read_task
from retort.data import (
    count_tokens,
    read_groups,
    read_parallel,
    read_scored_pairs,
    read_texts,
    train_tokenizer,
    trim_tokenizer,
)
from retort.data.readers import conll_rows, read_pairs, read_sts

TEXTS = {"text": ["good film", "bad film"], "label": ["pos", "neg"]}

pytestmark = pytest.mark.usefixtures("own_cache")


def task_of(write, contents, name="train.tsv", kind="classification", **settings):
    file = write(name, contents)
    return read_task(kind, train=file, dev=file, **settings)


# --- Valid files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "contents"),
    [
        ("a.tsv", "text\tlabel\ngood film\tpos\nbad film\tneg\n\n"),
        ("a.tsv", "text\tlabel\ngood film\tpos\nbad film\tneg\n \n\n"),
        ("a.csv", "text,label\ngood film,pos\nbad film,neg\n\n"),
        ("a.jsonl", '{"text": "good film", "label": "pos"}\n{"text": "bad film", "label": "neg"}\n\n'),
        ("a.TSV", "text\tlabel\ngood film\tpos\nbad film\tneg\n"),
        ("a.Csv", "text,label\ngood film,pos\nbad film,neg\n"),
        ("a.json", '{"text": "good film", "label": "pos"}\n{"text": "bad film", "label": "neg"}'),
        ("a.json", '[{"text": "good film", "label": "pos"},\n {"text": "bad film", "label": "neg"}]'),
    ],
)
def test_one_table_in_all_its_spellings(write, name, contents):
    assert read_dataset(write(name, contents))[:] == TEXTS
    assert task_of(write, contents, name).splits["train"]["text"][:] == TEXTS["text"]


def test_pandas_writes_what_is_read(write):
    frame = pd.DataFrame({"text": ['a\n"b", c', "", "d\te"], "label": ["x", "y", "z"]})
    assert read_dataset(write("a.csv", frame.to_csv(index=False)))[:] == frame.to_dict("list")
    lone = pd.DataFrame({"text": ["a", "", "b", ""]})
    assert read_dataset(write("b.csv", lone.to_csv(index=False)))[:] == lone.to_dict("list")
    assert read_dataset(write("a.json", frame.to_json(orient="records", indent=2)))[:] == frame.to_dict("list")
    assert read_dataset(write("a.jsonl", frame.to_json(orient="records", lines=True)))[:] == frame.to_dict("list")


def test_an_empty_text_is_a_row_of_a_table_of_one_column(write):
    assert read_dataset(write("a.tsv", "text\none\n\ntwo\n\n"))["text"][:] == ["one", "", "two"]


def test_long_fields_are_read(write):
    long = "word " * 60_000
    assert read_dataset(write("a.csv", f'text,label\n"{long}",x\n'))["text"][:] == [long]


@pytest.mark.parametrize(
    ("first", "then", "read_first", "feature"),
    [
        (None, "text", None, Value("string")),
        (None, 0.5, None, Value("float64")),
        (None, ["a"], None, List(Value("string"))),
        (None, {"a": 1}, None, {"a": Value("int64")}),
        ([], ["a"], [], List(Value("string"))),
        ([1], [0.5], [1.0], List(Value("float64"))),
        ({"a": None}, {"a": "x", "b": 1}, {"a": None, "b": None}, {"a": Value("string"), "b": Value("int64")}),
        (7, 0.5, 7.0, Value("float64")),
    ],
)
def test_types_are_settled_over_the_whole_file(write, first, then, read_first, feature):
    rows = [{"x": first}] * 3000 + [{"x": then}]
    found = read_dataset(write("a.jsonl", "\n".join(map(json.dumps, rows))))
    assert found.features == Features({"x": feature})
    assert found["x"][:3000] == [read_first] * 3000
    assert found["x"][3000] == then


def test_keys_may_be_missing(write):
    found = read_dataset(write("a.jsonl", '{"text": "a"}\n{"text": "b", "label": 1}\n{"label": 2}\n{}\n'))
    assert found[:] == {"text": ["a", "b", None, None], "label": [None, 1, 2, None]}


def test_large_lists_hold_words_and_tags(tmp_path):
    strings = LargeList(Value("large_string"))
    rows = {"tokens": [["Anna", "sings"], ["no"]], "ner_tags": [["B-PER", "O"], ["O"]]}
    Dataset.from_dict(rows, features=Features(tokens=strings, ner_tags=strings)).to_parquet(tmp_path / "train.parquet")
    task = read_task("tagging", folders=tmp_path, dev=tmp_path / "train.parquet")
    assert task.splits["train"]["words"][:] == rows["tokens"]
    assert task.labels == ("O", "B-PER")


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ("# sent_id = a1\n# text = Anna sings\nAnna\tB-PER\nsings\tO\n", [["Anna", "sings"]]),
        ("# a note\nAnna\tB-PER\n# another\nsings\tO\n\n# text = x\n#\tO\n", [["Anna", "sings"], ["#"]]),
        ("#music O\n# O\nAnna B-PER\n", [["#music", "#", "Anna"]]),
        ("#music\tO\n#\tO\n# 1\tO\n", [["#music", "#", "# 1"]]),
        ("# sent_id = 4 5\nAnna N B-PER\n# N O\n", [["Anna", "#"]]),
        ("# text = a\nAnna N x B-PER\n# b = O\n# N x O\n", [["Anna", "#"]]),
        ("#begin document (a); part 0\nAnna\tB-PER\n\n#end document\n", [["Anna"]]),
        ("# O\n#music O\n", [["#", "#music"]]),
    ],
)
def test_comments_of_conll_are_no_words_and_hashes_are(write, contents, words):
    rows = list(conll_rows(write("a.conll", contents)))
    assert [row["words"] for row in rows] == words
    assert {len(row["words"]) == len(row["labels"]) for row in rows} == {True}


@pytest.mark.promise(9)
def test_a_word_with_a_hash_that_lost_its_tag_is_an_error(write):
    with pytest.raises(ValueError, match=r"a\.conll:2: expected 2 columns"):
        list(conll_rows(write("a.conll", "Anna\tB-PER\n#music\n")))


def test_iobes_and_bilou_are_read_as_iob2(write, caplog):
    with caplog.at_level(logging.WARNING, logger="retort"):
        task = task_of(write, "Anna\tB-PER\nLee\tE-PER\nin\tO\nBonn\tS-LOC\n", "train.conll", "tagging")
    assert task.labels == ("O", "B-LOC", "B-PER", "I-PER")
    assert task.splits["train"]["labels"][0] == [2, 3, 0, 1]
    assert "tags of IOBES or BILOU (E-PER, S-LOC) are converted to IOB2" in caplog.text
    task = task_of(write, '{"words": ["Bonn", "a", "b"], "tags": ["U-LOC", "B-PER", "L-PER"]}', "a.jsonl", "tagging")
    assert task.labels == ("B-LOC", "B-PER", "I-PER")


@pytest.mark.parametrize(
    ("label", "names"), [("x,y", ("x", "y")), ("1.0,0.0", ("0.0", "1.0")), ("10.0,9.0", ("9.0", "10.0"))]
)
def test_csv_serves_tasks_and_whole_floats_are_classes(write, label, names):
    first, second = label.split(",")
    task = task_of(write, f'"a, ""b""",{first}\nc,{second}\n', "train.csv")
    assert task.labels == names
    assert task.splits["train"]["text"][:] == ['a, "b"', "c"]
    assert task.splits["train"]["labels"][:] == [names.index(first), names.index(second)]


def test_floats_of_json_that_are_whole_are_classes(write):
    rows = [{"text": text, "label": label} for text, label in zip("abc", (1.0, 0.0, 2.0), strict=True)]
    task = task_of(write, "\n".join(map(json.dumps, rows)), "a.jsonl")
    assert task.labels == ("0.0", "1.0", "2.0")
    assert task.splits["train"]["labels"][:] == [1, 0, 2]


# --- Headers and columns ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contents", "settings", "texts"),
    [
        ("goal\tscore\nsave\tsport\n", {}, ["goal", "save"]),
        ("Label\tText\npos\tgood\nneg\tbad\n", {}, ["good", "bad"]),
        ("idx\tsentence\tlabel\n7\tgood\tpos\n9\tbad\tneg\n", {}, ["good", "bad"]),
        ("pos\tgood film\nneg\tbad film\n", {"columns": [1, 0]}, ["good film", "bad film"]),
        ("0\tgood\tpos\n1\tbad\tneg\n", {"columns": [1, 2]}, ["good", "bad"]),
        ("review\tclass\ngood\tpos\nbad\tneg\n", {"columns": ["review", "class"]}, ["good", "bad"]),
        ("text\tlabel\ngood\tx\n", {"columns": [0, 1]}, ["text", "good"]),
    ],
)
def test_a_header_is_a_row_that_names_all_columns(write, contents, settings, texts):
    assert task_of(write, contents, **settings).splits["train"]["text"][:] == texts


def test_the_rule_is_logged(write, caplog):
    with caplog.at_level(logging.INFO, logger="retort"):
        task_of(write, "label\ttext\npos\tgood\nneg\tbad\n")
        task_of(write, "goal\tscore\nsave\tsport\n", "b.tsv")
    assert "train.tsv: the first row is a header; reading the columns text, label." in caplog.text
    assert "b.tsv: no header row; columns are read in order." in caplog.text


def test_columns_of_datasets_go_by_name(write):
    contents = '{"review": "good", "class": "pos"}\n{"review": "bad", "class": "neg"}\n'
    task = task_of(write, contents, "a.jsonl", columns=["review", "class"])
    assert task.splits["train"]["text"][:] == ["good", "bad"]
    assert task.labels == ("neg", "pos")


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["text"], r"columns= must say where text, labels are, but got 1"),
        ([0, 2], r"train\.tsv:1: has 2 columns, but columns= is \[0, 2\], from 0"),
        (["text", "class"], r"train\.tsv:1: expected a header row with text, class, but the first row is \['text', 'l"),
    ],
)
def test_columns_that_are_not_there_are_errors(write, columns, message):
    with pytest.raises(ValueError, match=message):
        task_of(write, "text\tlabel\na\tb\nc\td\n", columns=columns)


@pytest.mark.parametrize(
    ("name", "contents", "expected"),
    [
        ("a.tsv", "negative\tanchor\tpositive\nn\ta\tp\n", {"anchor": ["a"], "positive": ["p"], "negative": ["n"]}),
        ("a.csv", "positive,anchor\np,a\n", {"anchor": ["a"], "positive": ["p"]}),
        ("a.tsv", "premise\thypothesis\na\tp\n", {"anchor": ["a"], "positive": ["p"]}),
        ("a.tsv", "goal\tscore\na\tp\n", {"anchor": ["goal", "a"], "positive": ["score", "p"]}),
        ("a.jsonl", '{"positive": "p", "query": "a"}\n', {"anchor": ["a"], "positive": ["p"]}),
        ("a.jsonl", '{"text": "a"}\n', {"anchor": ["a"]}),
        (
            "a.json",
            '[{"sent1": "p", "hard_neg": "n", "sent0": "a"}]',
            {"anchor": ["a"], "positive": ["p"], "negative": ["n"]},
        ),
    ],
)
def test_roles_go_by_name_where_there_is_a_header(write, name, contents, expected):
    assert read_groups([write(name, contents)]).to_dict() == expected


def test_groups_are_read_from_parquet_and_saved_datasets(tmp_path):
    rows = Dataset.from_dict({"negative": ["n"], "anchor": ["a"], "positive": ["p"]}).cast_column(
        "anchor", Value("large_string")
    )
    rows.to_parquet(tmp_path / "a.parquet")
    rows.save_to_disk(tmp_path / "saved")
    for source in (tmp_path / "a.parquet", str(tmp_path / "saved")):
        assert read_groups([source]).to_dict() == {"anchor": ["a"], "positive": ["p"], "negative": ["n"]}


@pytest.mark.promise(9)
@pytest.mark.parametrize("name", ["a.tsv", "a.jsonl"])
def test_a_label_is_no_hard_negative(write, name):
    rows = [["sentence1", "sentence2", "label"], ["a", "b", "0"], ["c", "d", "1"]]
    contents = "".join("\t".join(row) + "\n" for row in rows)
    if name.endswith("l"):
        contents = "".join(json.dumps(dict(zip(rows[0], row, strict=True))) + "\n" for row in rows[1:])
    file = write(name, contents)
    with pytest.raises(
        ValueError, match=r"besides sentence1, sentence2 there are the columns label\..*columns=\['sent"
    ):
        read_groups([file])
    found = read_groups([file], columns=["sentence1"])
    assert found.to_dict() == {"anchor": ["a", "c"]}
    found = read_groups([file], columns=["sentence1", "sentence2"])
    assert found.to_dict() == {"anchor": ["a", "c"], "positive": ["b", "d"]}


def test_columns_of_groups_may_be_numbered(write):
    file = write("a.tsv", "1\tp\ta\n2\tq\tb\n")
    assert read_groups([file], columns=[2, 1]).to_dict() == {"anchor": ["a", "b"], "positive": ["p", "q"]}
    assert read_groups([file], columns=[1]).to_dict() == {"anchor": ["p", "q"]}


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        (
            "a.jsonl",
            '{"a": "x", "b": "y"}\n',
            r"expected the columns anchor, positive, but there are a, b\..*by columns=",
        ),
        ("a.jsonl", '{"anchor": "x", "positive": 1}\n', r"the column 'positive' holds .*int64.*, not text"),
        ("a.tsv", "\tanchor\tpositive\n0\ta\tb\n", r"a\.tsv:1: the first column has no name.*to_csv\(index=False\)"),
        ("a.tsv", "0\ta\tb\n1\tc\td\n2\te\tf\n", r"the column read as anchor holds row numbers.*index=False"),
    ],
)
def test_what_is_no_group_is_refused(write, name, contents, message):
    with pytest.raises(ValueError, match=message):
        read_groups([write(name, contents)])


# --- What is not plausible --------------------------------------------------------------------------------------------


def pandas_tsv(**settings):
    frame = pd.DataFrame({"text": ['say "so"', "plain", "x"], "label": ["pos", "neg", "pos"]})
    return frame.to_csv(sep="\t", **settings)


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (pandas_tsv(index=False) + '"x"\tpos\n', r"train\.tsv:2: cells that contain quotes are quoted, but some need"),
        ('"text"\t"label"\n"a"\t"b"\n', r"train\.tsv:1: cells that contain quotes are quoted.*csv.QUOTE_NONE"),
        ('"a b"\t0\n"c"\t1\n"d"\t1\n', r"train\.tsv:1: cells that contain quotes are quoted.*csv.QUOTE_NONE"),
        ('text\tlabel\n"a\nb"\tpos\n', r"train\.tsv:2: this row has 1 columns, expected 2.*without quoting.*to_csv"),
        ('text\tlabel\n"a\tb"\tpos\n', r"train\.tsv:2: this row has 3 columns, expected 2.*without quoting.*to_csv"),
        (pandas_tsv(), r"train\.tsv:1: the first column has no name\. .*an index.*to_csv\(index=False\)"),
        ("0\tgood\tpos\n1\tbad\tneg\n", r"train\.tsv:1: this row has 3 columns, expected 2"),
        (
            "pos\tgood film\nneg\tbad film\n",
            r"train\.tsv:1: the labels, such as 'good film', are longer .*columns=\[1, 0",
        ),
        ("a\t1e999\nb\t0.5\n", r"train\.tsv:1: unknown label '1e999', expected a finite number"),
        ("a\tnan\nb\t0.5\n", r"train\.tsv:1: some labels are numbers, others are words \(nan\)"),
        ("a\tb\tscore\nc\td\t0.5\n", r"this row has 3 columns, expected 2 .*Set pairs to true"),
        ("a\t1\nb\t1.0\n", r"The labels 1, 1\.0 contain the same number in several forms"),
    ],
)
def test_the_likely_cause_is_named(write, contents, message):
    with pytest.raises(ValueError, match=message):
        task_of(write, contents)


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (pandas_tsv(), r"train\.tsv:1: the first column has no name.*index=False"),
        ("0\tgood\tpos\n1\tbad\tneg\n2\tx\tpos\n", r"the column read as text holds row numbers.*index=False"),
        (
            "a\tb\tscore\nc\td\t0.5\n",
            r"train\.tsv:1: some labels are numbers.*header, pass the names of its columns as columns=",
        ),
        ("pos\ta b\tc d e\nneg\tf g\th i\n", r"train\.tsv:1: the labels, such as 'c d e', are longer"),
    ],
)
def test_the_likely_cause_is_named_for_pairs(write, contents, message):
    with pytest.raises(ValueError, match=message):
        task_of(write, contents, pairs=True)


def test_short_labels_of_many_words_are_plausible_and_listed_ones_anyway(write):
    assert task_of(write, "Bonn\tcapital city\nLyon\tbig city\nRome\tcapital city\n").labels == (
        "big city",
        "capital city",
    )
    assert task_of(write, "pos\ta b\nneg\tc d\n", "b.tsv", labels=["a b", "c d"]).labels == ("a b", "c d")


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("name", ["train.tsv", "train.tsv.gz"])
def test_tsv_of_pandas_is_read_without_its_quotes_and_says_so(write, quoting, name, caplog):
    contents = pandas_tsv(index=False, quoting=quoting)
    with caplog.at_level(logging.WARNING, logger="retort"):
        found = read_dataset(write(name, contents))
    assert found[:] == {"text": ['say "so"', "plain", "x"], "label": ["pos", "neg", "pos"]}
    assert caplog.text.count("cells with quotes are quoted, and are read without these quotes") == 1
    assert task_of(write, contents, name).splits["train"]["text"][:] == ['say "so"', "plain", "x"]
    assert read_texts([f"{write(name, contents)}:0"])["text"][:] == ["text", 'say "so"', "plain", "x"]


def test_quotes_are_characters_where_one_cell_has_them_so(write):
    cells = ['"a ""b"" c"', 'he said "no"', '"quoted"']
    contents = "".join(f"{cell}\t{label}\n" for cell, label in zip(cells, "xyx", strict=True))
    assert task_of(write, contents).splits["train"]["text"][:] == cells
    assert task_of(write, '"quoted"\tx\nplain\ty\n', "b.tsv").splits["train"]["text"][:] == ['"quoted"', "plain"]


@pytest.mark.promise(9)
@pytest.mark.parametrize("tags", ["B_PER O", "PER-B O", "b-per o", "B O"])
@pytest.mark.parametrize("name", ["train.tsv", "train.conll", "train.jsonl"])
def test_tags_that_are_nearly_spans_are_refused(write, tags, name):
    first, second = tags.split()
    contents = {
        "train.tsv": f"Anna sings\t{tags}\n",
        "train.conll": f"Anna\t{first}\nsings\t{second}\n",
        "train.jsonl": json.dumps({"words": ["Anna", "sings"], "tags": tags.split()}),
    }[name]
    with pytest.raises(
        ValueError, match=f"{name}: the tags {first} look like malformed tags of spans. Write them in IOB2"
    ):
        task_of(write, contents, name, "tagging")


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ('{"a": 1}\n' * 1500 + '{"a": "x"}\n', r"a\.jsonl:1501: 'a' holds a string here, but a number before"),
        ('{"a": 0.5}\n{"a": [1]}\n', r"a\.jsonl:2: 'a' holds a list here, but a number before"),
        ('{"a": [1]}\n\n{"a": ["x"]}\n', r"a\.jsonl:3: 'a', in a list, holds a string here, but a number before"),
        ('{"a": {"b": 1}}\n{"a": {"b": true}}\n', r"a\.jsonl:2: 'a', 'b', holds a boolean here, but a number"),
        ('{"a": 9007199254740993}\n{"a": 0.5}\n', r"a\.jsonl:2: 'a' holds floats, and integers above 2\*\*53"),
        ('{"a": 9223372036854775808}\n', r"a\.jsonl:1: 'a' holds an integer of more than 64 bits"),
        ('{"a": 1e999}\n', r"a\.jsonl:1: .*1e999 is not a finite number"),
        ('{"a": NaN}\n', r"a\.jsonl:1: .*NaN is not a finite number"),
        ('{"a": "\\ud800"}\n', r"a\.jsonl:1: 'a' holds half a surrogate pair"),
        ('{"a": ' + "[" * 100_000, r"a\.jsonl:1: this line is not JSON"),
        ('{"a": ' + "1" * 5000 + "}", r"a\.jsonl:1: this line is not JSON"),
        ('{"a": 1} {"a": 2}\n', r"a\.jsonl:1: this line is not JSON \(unexpected"),
        ("\n\n", r"a\.jsonl holds no rows"),
    ],
)
def test_json_that_fits_no_type_is_an_error_with_its_line(write, contents, message):
    with pytest.raises(ValueError, match=message):
        read_dataset(write("a.jsonl", contents))


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ('[{"a": 1},\n\n 7]', r"a\.json:3: expected a JSON object .* found 7"),
        ('[{"a": 1}\n {"a": 2}]', r"a\.json:2: not JSON: expected a comma"),
        ('[{"a": 1},\n{"a": "x"}]', r"a\.json:2: 'a' holds a string here"),
        ('[{"a": 1},\n{"a": \n', r"a\.json:3: this line is not JSON"),
        ('[{"a": 1}]\n[]', r"a\.json:1: not JSON: the list ends"),
        ("[]", r"a\.json holds no rows"),
    ],
)
def test_a_list_of_objects_is_checked_line_by_line(write, contents, message):
    with pytest.raises(ValueError, match=message):
        read_dataset(write("a.json", contents))


@pytest.mark.promise(9)
def test_a_row_of_json_is_named_by_its_line_past_blank_ones(write):
    contents = '{"text": "a", "label": "x"}\n\n{"text": null, "label": "y"}\n'
    with pytest.raises(ValueError, match=r"a\.jsonl:3: this row has a label but no text"):
        task_of(write, contents, "a.jsonl")


@pytest.mark.promise(9)
def test_a_table_with_an_index_is_refused_by_its_header(write):
    with pytest.raises(ValueError, match=r"a\.csv:1: a header row must give .* to be an index.*index=False"):
        read_dataset(write("a.csv", pd.DataFrame({"text": ["a"]}).to_csv()))


@pytest.mark.promise(9)
@pytest.mark.parametrize("make", [train_tokenizer, count_tokens, trim_tokenizer])
def test_rows_without_text_are_an_error_for_tokenizers(make):
    texts = Dataset.from_dict({"text": ["a", "b", None]})
    arguments = {
        train_tokenizer: (texts, tiny.tokenizer(), 100),
        count_tokens: (tiny.tokenizer(), texts),
        trim_tokenizer: (tiny.tokenizer(), texts),
    }[make]
    with pytest.raises(ValueError, match=r"Row 3 \(from 1\) of the column 'text' is None, not a text"):
        make(*arguments)


@pytest.mark.promise(9)
@pytest.mark.parametrize("make", [train_tokenizer, count_tokens, trim_tokenizer])
def test_a_list_of_texts_is_an_error_for_tokenizers(make):
    arguments = [["a", "b"], tiny.tokenizer()]
    arguments = [*arguments, 100] if make is train_tokenizer else arguments[::-1]
    with pytest.raises(TypeError, match=r"must be a datasets\.Dataset .* but are a list\. Pass Dataset\.from_dict"):
        make(*arguments)


def test_scored_pairs_of_csv_and_json_are_read(write):
    rows = [{"sentence1": 'a, "b"', "sentence2": "c", "score": 2.5}, {"sentence1": "d", "sentence2": "e", "score": 0.0}]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    expected = {key: [row[key] for row in rows] for key in rows[0]}
    assert read_sts(str(write("a.csv", stream.getvalue())))[:] == expected
    assert read_sts(str(write("a.jsonl", "\n".join(map(json.dumps, rows)))))[:] == expected


@pytest.mark.promise(9)
@pytest.mark.parametrize("score", ["nan", "inf", "-Infinity", "1_0", "1e999", "", "x", "0x1"])
def test_scores_that_are_no_finite_numbers_are_refused(write, score):
    for name, separator in (("a.tsv", "\t"), ("a.csv", ",")):
        file = write(name, f"a{separator}b{separator}1\na{separator}b{separator}{score}\n")
        with pytest.raises(ValueError, match=rf"{name}:2: expected a number, but found '{score}'"):
            read_scored_pairs(file)


@pytest.mark.promise(9)
def test_scores_of_datasets_are_finite(tmp_path):
    Dataset.from_dict({"sentence1": ["a"] * 2, "sentence2": ["b"] * 2, "score": [1, np.nan]}).save_to_disk(
        tmp_path / "d"
    )
    with pytest.raises(ValueError, match=r"row 2 \(from 1\): the score is not a finite number"):
        read_sts(str(tmp_path / "d"))


@pytest.mark.promise(9)
def test_rows_of_sts_that_can_not_be_read_are_refused_with_the_columns(write, tmp_path):
    named = "Read are sentence1 in column 1, sentence2 in column 2, score in column 3."
    for text, message in (("a\tb\n", "expected 3 columns, but found 2"), ("a\tb\thigh\n", "but found 'high'")):
        with pytest.raises(ValueError, match=f"{message}.*{named}"):
            read_sts(str(write("pairs.tsv", text)))
    file = write("header.tsv", "score\tsentence2\tsentence1\nhigh\tb\ta\n")
    with pytest.raises(
        ValueError, match=r"header\.tsv:2: .*sentence1 in column 3, sentence2 in column 2, score in column 1"
    ):
        read_sts(str(file))
    with pytest.raises(FileNotFoundError, match=r"There is no file gone.tsv .*table of sentence1, sentence2, score"):
        read_sts("gone.tsv")
    for columns, message in (
        (
            {"sentence1": ["a"], "text": ["b"], "score": [1.0]},
            r"there are sentence1 \(string\), text \(string\), score",
        ),
        ({"sentence1": ["a"], "sentence2": [2], "score": [1.0]}, r"sentence2 \(int64\)"),
        ({"sentence1": ["a"], "sentence2": ["b"], "score": ["high"]}, "the column score holds no numbers"),
    ):
        Dataset.from_dict(columns).save_to_disk(tmp_path / "d")
        with pytest.raises(ValueError, match=message):
            read_sts(str(tmp_path / "d"))


def test_a_split_or_a_slice_of_a_dataset_is_named_in_brackets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split, texts in (("train", ["a", "b", "c"]), ("test", ["d"])):
        Dataset.from_dict({"text": texts, "other": texts}).to_parquet(tmp_path / f"some/words/{split}.parquet")
    assert read_texts(["some/words[test]"])["text"][:] == ["d"]
    assert read_texts(["some/words[train[1:]]:other"])["text"][:] == ["b", "c"]
    assert read_texts(["some/words[train[:2]]"])["text"][:] == ["a", "b"]
    with pytest.raises(ValueError, match="dev"):
        read_texts(["some/words[dev]"])


def test_parallel_text_of_a_dataset_is_its_two_columns_of_text(tmp_path):
    def found(**columns):
        Dataset.from_dict(columns).save_to_disk(tmp_path / "d")
        return read_pairs(str(tmp_path / "d")).to_dict()

    assert found(english=["a"], non_english=["b"], score=[1]) == {"source": ["a"], "target": ["b"]}
    assert found(target=["a"], source=["b"], other=["c"]) == {"source": ["b"], "target": ["a"]}
    with pytest.raises(ValueError, match="has the columns en, de, fr: expected a sentence and its translation"):
        found(en=["a"], de=["b"], fr=["c"])


@pytest.mark.promise(9)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_missing_texts_of_an_evaluation_are_refused_and_left_out_of_training(kind, tmp_path):
    def written(name, **columns):
        file = f"{tmp_path}/{name}.{kind}"
        rows = Dataset.from_dict(columns)
        rows.to_json(file) if kind == "jsonl" else rows.to_parquet(file)
        return file

    scored = written("sts", sentence1=["a", "b"], sentence2=["c", None], score=[1.0, 2.0])
    with pytest.raises(ValueError, match=rf"sts\.{kind}, row 2 \(from 1\): no text in sentence2\."):
        read_sts(scored)
    pairs = written("de", source=["a cat", None], target=["eine Katze", "ein Hund"])
    for source in (pairs, f"{pairs}:source,target", f"{pairs}:source+{pairs}:target"):
        with pytest.raises(ValueError, match=rf"de\.{kind}.*, row 2 \(from 1\): no text in source\."):
            read_pairs(source)
        assert read_parallel([source]).to_dict() == {"source": ["a cat"], "target": ["eine Katze"]}


def test_a_header_of_parallel_text_is_no_pair(write):
    for header in ("source\ttarget\n", "sentence1\tsentence2\n", ""):
        found = read_parallel([str(write("de.tsv", f"{header}a cat\teine Katze\n\n"))])
        assert found.to_dict() == {"source": ["a cat"], "target": ["eine Katze"]}


@pytest.mark.parametrize(
    "table",
    [
        "target\tsource\neine Katze\ta cat\n",
        "id\tsource\ttarget\nx1\ta cat\teine Katze\n",
        "source\ttarget\tscore\na cat\teine Katze\t0.93\n",
    ],
    ids=["swapped", "with ids", "with scores"],
)
def test_columns_of_parallel_text_are_found_by_their_names(table, write):
    assert read_pairs(str(write("de.tsv", table))).to_dict() == {"source": ["a cat"], "target": ["eine Katze"]}


@pytest.mark.promise(9)
def test_without_a_header_other_columns_are_refused_until_two_are_named(write):
    """The third column of Tatoeba's files from Anki is a licence, of STS files a score."""
    file = write("de.tsv", "Go.\tGeh.\tCC-BY 2.0\n")
    with pytest.raises(ValueError, match=r"this row has 3 columns, .* Name the two columns: .*de\.tsv:0,1\."):
        read_pairs(str(file))
    assert read_pairs(f"{file}:0,1").to_dict() == {"source": ["Go."], "target": ["Geh."]}


@pytest.mark.promise(9)
def test_a_folder_that_is_gone_is_not_read_from_the_cache_of_datasets(write, tmp_path, monkeypatch):
    """By a folder's name alone, datasets also finds what it made of another folder of that name."""
    (tmp_path / "mine").mkdir()
    write("mine/train.jsonl", '{"text": "a cat"}\n')
    monkeypatch.chdir(tmp_path)
    assert len(read_dataset("mine")) == 1
    shutil.rmtree(tmp_path / "mine")
    with pytest.raises(FileNotFoundError, match=r"There is no file or folder mine .*named with its owner"):
        read_dataset("mine")


@pytest.mark.promise(9)
def test_a_single_scored_pair_is_refused(write):
    with pytest.raises(ValueError, match="has one pair"):
        read_sts(str(write("a.tsv", "sentence1\tsentence2\tscore\na\tb\t3\n")))


@pytest.mark.promise(9)
@pytest.mark.parametrize("name", ["a.tsv", "a.jsonl"])
def test_scores_that_are_all_equal_are_refused(name, write):
    rows = [{"sentence1": "a", "sentence2": "b", "score": 3}, {"sentence1": "c", "sentence2": "d", "score": 3}]
    table = "\n".join(["\t".join(rows[0]), *("\t".join(map(str, row.values())) for row in rows)])
    file = write(name, table if name == "a.tsv" else "\n".join(map(json.dumps, rows)) + "\n")
    with pytest.raises(ValueError, match="all 2 scores are 3"):
        read_sts(str(file))


def test_a_single_source_needs_no_list(write):
    pairs = write("pairs.tsv", "source\ttarget\nHello.\tHallo.\nYes.\tJa.\n")
    assert read_parallel(pairs)[:] == read_parallel([pairs])[:]
    assert read_texts(f"{pairs}:source")["text"][:] == ["Hello.", "Yes."]
    assert read_groups(pairs, columns=["source", "target"])["anchor"][:] == ["Hello.", "Yes."]
    assert read_parallel(Path(pairs))[:] == read_parallel([pairs])[:]
    for read in (read_texts, read_groups, read_parallel):
        with pytest.raises(ValueError, match="got an empty list"):
            read([])
