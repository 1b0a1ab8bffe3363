"""Bad rows, bad labels and bad places of a task are errors that name file, line and the way out."""

import pytest
from datasets import ClassLabel, Dataset, Features, Value
from task_folders import CLASSIFIED, TAGGED

from retort import read_task

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train.tsv": "a b\tO B-X\na b c\tO O O B-X\n"}, r"train\.tsv:2: 3 words, but 4 tags. Expected one tag for"),
        (
            {"train.tsv": "a b\tO O\tB-X\n"},
            r"train\.tsv:1: this row has 3 columns, expected 2 \(words, labels\), with a",
        ),
        ({"train.tsv": "a b\n"}, r"train\.tsv:1: this row has 1 columns, expected 2"),
        ({"train.tsv": "a  b\tO O B-X\n"}, r"train\.tsv:1: expected words and tags with single spaces"),
        (
            {"train.tsv": "a\tO\nb\tB-X\n\nc\tO\n"},
            r"train\.tsv: .* every row has a single word.* change its suffix to \.conll",
        ),
        ({"train.tsv": ""}, r"train\.tsv is empty"),
        ({"train.tsv": "\n\n"}, r"train\.tsv holds no rows"),
        ({"train.conll": "\n\n"}, r"train\.conll holds no sentences"),
        ({"train.conll": "a\tO\nb B-X\n"}, r"train\.conll:2: expected 2 columns with a tab between them.*'b B-X'"),
        ({"train.conll": "a N O\n\nb O\n"}, r"train\.conll:3: expected 3 columns with a space between them"),
        ({"train.conll": "a\n"}, r"train\.conll:1: expected 2 columns"),
        ({"train.conll": "\tO\n"}, r"train\.conll:1: expected 2 columns"),
        ({"train.conll": "a\t\n"}, r"train\.conll:1: expected 2 columns"),
        ({"train.tsv": "a b\tfr:B-X de:O\n"}, r"train\.tsv:1: tags of several languages in one sentence: de, fr"),
        ({"labels.tsv": "O\nB-PER\nS-PER\n"}, r"labels\.tsv: the tags S-PER are in IOBES.* Write S- and U-"),
        ({"train.tsv": "a b\tB-X X\n"}, r"train\.tsv: some tags have the prefix B- or I-, others don't \(X\)"),
        (
            {"dev.tsv": "a b\tO O\na Bonn\tO B-ORG\n"},
            r"dev\.tsv:2: unknown label 'B-ORG', .* O, B-LOC, B-PER .*labels=",
        ),
        ({"test.conll": "a\tO\n\nBonn\tB-LOC\nx\tI-LOC\n"}, r"test\.conll:3: unknown label 'I-LOC'"),
        (
            {"dev.tsv": "a b\tO O\n"},
            r"All tags of the dev split \(1 rows\) are O.* Pass files with tagged spans as dev=",
        ),
        ({"train.tsv": "a b\tO O\n"}, "expected at least two labels, but found O"),
        (
            {"labels.tsv": "O\nB-PER\n"},
            r"train\.tsv:1: unknown label 'B-LOC', expected one of O, B-PER \(.*labels\.tsv",
        ),
        ({"labels.tsv": "O\nB-PER\nB-LOC\nO\n"}, r"labels\.tsv:4: the label 'O' is already in line 1"),
        ({"labels.tsv": "O\n\nB-PER\n"}, r"labels\.tsv:2: expected one label per line"),
        ({"labels.tsv": "0\tO\n1\tB-PER\n"}, r"labels\.tsv:1: expected one label per line"),
        ({"labels.tsv": "O\nB-PER\nB-LOC\nI-ORG\n"}, r"labels\.tsv: spans begin with B- .* lack B-ORG"),
        ({"transfer.txt": ""}, r"transfer\.txt is empty"),
        (
            {"train.conll": "a\tO\n"},
            r"several files for the split train: train\.tsv, train\.conll. Keep one of them, or pass",
        ),
        (
            {"train.jsonl": '{"tokens": ["a"], "tags": ["O", "O"]}\n', "train.tsv": None},
            r"train\.jsonl:1: 1 words, but 2",
        ),
        (
            {"train.jsonl": '{"tokens": ["a"], "tags": "O"}\n', "train.tsv": None},
            "expected a list of tags in the column",
        ),
        ({"train.jsonl": '{"tokens": "a", "tags": ["O"]}\n', "train.tsv": None}, "expected lists of words in a column"),
        (
            {"train.jsonl": '{"tokens": ["a"]}\n', "train.tsv": None},
            "has no column tags or ner_tags or labels or label",
        ),
    ],
)
def test_bad_rows_for_tagging_are_errors_that_name_file_and_line(task_folder, files, message):
    files = TAGGED | files
    if "train.conll" in files and "several" not in message:
        files["train.tsv"] = None
    place = task_folder({name: contents for name, contents in files.items() if contents is not None})
    with pytest.raises(ValueError, match=message):
        read_task("tagging", folders=place)


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train.tsv": "a\tpos\nb\tc\tneg\n"}, r"train\.tsv:2: this row has 3 columns, expected 2 .*Set pairs to true"),
        ({"train.tsv": "a\tpos\nb\t\n"}, r"train\.tsv:2: expected a label, but there is none"),
        ({"train.tsv": "text\tlabel\n"}, r"train\.tsv holds no rows"),
        (
            {"train.tsv": "a\t1\nb\t2\nc\tx\n"},
            r"train\.tsv:3: some labels are numbers, others are words \(x\).*labels=",
        ),
        ({"train.tsv": "a\tpos\nb\tpos\n"}, "expected at least two labels, but found pos"),
        (
            {"train.tsv": "a\t1.5\nb\t2\n"},
            r"dev\.tsv:1: unknown label 'neg', expected a finite number, as in the training",
        ),
        ({"dev.tsv": "a\tneg\n\nb\tneutral\n"}, r"dev\.tsv:3: unknown label 'neutral', expected one of neg, pos"),
        (
            {"train.conll": "a\tO\n", "train.tsv": None},
            "for classification are read from files of .tsv, .csv, .jsonl, .json, .parqu",
        ),
        ({"train.tsv": None}, "There are no labelled training rows. Pass files as train="),
        ({"train.tsv": None, "dev.tsv": None}, "has neither files of splits, such as train.tsv .* nor a dataset"),
        ({"transfer.txt": ""}, r"transfer\.txt is empty"),
        (
            {"train.jsonl": '{"text": "a", "label": "b"}\n{"text": null, "label": "c"}\n', "train.tsv": None},
            r"train\.jsonl:2: this row has a label but no text",
        ),
        (
            {"train.jsonl": '{"premise": "a", "hypothesis": "b", "label": "c"}\n', "train.tsv": None},
            "Set pairs to true",
        ),
        (
            {"train.jsonl": '{"text": 1, "label": "c"}\n', "train.tsv": None},
            r"expected columns of text .* text \(int64\)",
        ),
    ],
)
def test_bad_rows_for_classification_are_errors_that_name_file_and_line(task_folder, files, message):
    place = task_folder({name: contents for name, contents in (CLASSIFIED | files).items() if contents is not None})
    with pytest.raises(ValueError, match=message):
        read_task("classification", folders=place)


@pytest.mark.promise(9)
def test_arguments_that_fit_nothing_are_errors(task_folder):
    place = task_folder(CLASSIFIED)
    with pytest.raises(ValueError, match="A task is tagging or classification, but got kind='ner'"):
        read_task("ner", folders=place)
    with pytest.raises(ValueError, match="Tagging has one text per row, but pairs is true"):
        read_task("tagging", folders=place, pairs=True)
    with pytest.raises(ValueError, match="There are no labelled training rows"):
        read_task("classification")
    with pytest.raises(FileNotFoundError, match=r"no file or folder \./missing"):
        read_task("classification", folders="./missing")
    with pytest.raises(FileNotFoundError, match=r"no file or folder missing\.tsv"):
        read_task("classification", train="de=missing.tsv")
    with pytest.raises(ValueError, match=r"train\.tsv is a file, but a folder"):
        read_task("classification", folders=place / "train.tsv")
    with pytest.raises(ValueError, match="has no split test, only train, dev"):
        read_task("classification", folders=place, test=place)
    for labels, message in [
        (["pos", "neg", "pos"], "every label once, but got pos, neg, pos"),
        (["pos"], "expected at least two labels, but found pos"),
        ([], "expected at least two labels, but found none"),
    ]:
        with pytest.raises(ValueError, match=message):
            read_task("classification", folders=place, labels=labels)
    pairs = task_folder({"train.tsv": "a\tb\t0\nc\td\t1\n", "transfer.txt": "a\n"}, "pairs")
    with pytest.raises(ValueError, match=r"a \.txt file holds one text per line, but pairs are expected"):
        read_task("classification", folders=pairs, pairs=True)
    with pytest.raises(ValueError, match="a single training row can't be split"):
        read_task("classification", folders=task_folder({"train.tsv": "a\tx\n"}, "single"), labels=["x", "y"])


@pytest.mark.promise(9)
def test_lists_of_labels_that_differ_are_errors(task_folder):
    one, other = (
        task_folder(CLASSIFIED | {"labels.tsv": "pos\nneg\n"}, "a"),
        task_folder({"labels.tsv": "neg\npos\n", "test.tsv": "a\tpos\n"}, "b"),
    )
    with pytest.raises(ValueError, match=r"a/labels\.tsv and .*b/labels\.tsv list different labels.*Pass labels="):
        read_task("classification", folders=[one, other])
    assert read_task("classification", folders=[one, other], labels=["neg", "pos"]).labels == ("neg", "pos")


@pytest.mark.promise(9)
def test_a_number_that_names_no_class_is_an_unknown_label(tmp_path):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["n", "y"])})
    rows = Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, 1]}, features=features)
    wrong = rows.map(lambda label: {"label": label * -2}, input_columns="label")
    wrong.save_to_disk(str(tmp_path / "wrong"))
    with pytest.raises(
        ValueError, match=r"wrong \(train\), row 1 \(from 1\): unknown label '-2', expected one of n, y"
    ):
        read_task("classification", folders=str(tmp_path / "wrong"))
