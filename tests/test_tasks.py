"""Rows of labelled tasks, from every format and place they come from."""

import json
import os
import sys

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from processes import run
from task_folders import CLASSIFIED, TAGGED, named
from transformers import BertConfig

from retort import read_task

pytestmark = pytest.mark.usefixtures("own_cache")

# --- Formats ----------------------------------------------------------------------------------------------------------


def test_a_folder_for_tagging(task_folder):
    task = read_task("tagging", folders=f"de={task_folder(TAGGED)}")
    assert task.labels == ("O", "B-LOC", "B-PER")
    assert task.kind == "tagging"
    assert not task.pairs
    assert list(task.splits) == ["train", "dev"]
    assert task.splits["train"].features == Features(
        {"words": List(Value("string")), "labels": List(Value("int32")), "language": Value("string")}
    )
    assert task.splits["train"][:] == {
        "words": [["Anna", "lives", "in", "Bonn"], ["no", "one"]],
        "labels": [[2, 0, 0, 1], [0, 0]],
        "language": ["de", "de"],
    }
    assert task.transfer[:] == {"text": ["Anna lives in Bonn", "no one"]}


def test_a_folder_for_classification(task_folder):
    files = CLASSIFIED | {"test.tsv": "fine\tpos\n"}
    task = read_task("classification", folders=[task_folder(files)])
    assert task.labels == ("neg", "pos")
    assert task.splits["train"].features == Features(
        {"text": Value("string"), "labels": Value("int32"), "language": Value("string")}
    )
    assert task.splits["train"][:] == {"text": ["good film", "bad film"], "labels": [1, 0], "language": ["", ""]}
    assert task.splits["test"][:] == {"text": ["fine"], "labels": [1], "language": [""]}
    assert task.transfer[:] == {"text": ["good film", "bad film"]}


def test_pairs_of_texts(task_folder):
    files = {"train.tsv": "a b\tc\t1\nd\te\t0\n", "dev.tsv": "x\ty\t1\n", "transfer.tsv": "f\tg\th\ti\nj\tk\n"}
    task = read_task("classification", folders=task_folder(files), pairs=True)
    assert task.pairs
    assert task.splits["train"].column_names == ["text", "text_pair", "labels", "language"]
    assert task.splits["train"][0] == {"text": "a b", "text_pair": "c", "labels": 1, "language": ""}
    assert task.transfer[:] == {"text": ["f", "j"], "text_pair": ["g", "k"]}


@pytest.mark.parametrize("name", ["train.conll", "train.bio", "train.iob2", "train.txt", "train.conll.gz"])
def test_conll_files_have_a_word_per_line(task_folder, name):
    lines = "-DOCSTART-\tO\n\nAnna\tB-PER\nlives\tO\n \n\n10 000\tO\r\n-DOCSTART-\tO\nBonn\tB-LOC"
    task = read_task("tagging", folders=task_folder({name: lines, "dev.tsv": TAGGED["dev.tsv"]}))
    assert list(task.splits["train"]["words"]) == [["Anna", "lives"], ["10 000"], ["Bonn"]]
    assert named(task, "train") == [["B-PER", "O"], ["O"], ["B-LOC"]]


def test_conll_files_may_have_spaces_and_further_columns(task_folder):
    lines = "-DOCSTART- -X- -X- O\n\nAnna NNP  I-NP B-PER\nlives VBZ I-VP O\n"
    place = task_folder({"train.conll": lines})
    task = read_task("tagging", folders=place, dev=place / "train.conll")
    assert list(task.splits["train"]["words"]) == [["Anna", "lives"]]
    assert named(task, "train") == [["B-PER", "O"]]


def test_quotes_are_characters_blank_lines_are_skipped_and_headers_known(task_folder, log):
    files = {
        "train.tsv": 'text\tlabel\n"open\tpos\n\n \nsay "so"\tneg\n',
        "dev.tsv": "text\tclass\nx\tpos\n",
    }
    place = task_folder(files)
    task = read_task("classification", folders=place, dev=place / "train.tsv")
    assert list(task.splits["train"]["text"]) == ['"open', 'say "so"']
    assert f"{place / 'train.tsv'}: 2 blank lines between rows were skipped." in log.text
    with pytest.raises(ValueError, match=r"dev\.tsv:1: unknown label 'class', expected one of neg, pos"):
        read_task("classification", folders=place)


def test_a_text_alone_in_its_row_is_no_header(task_folder):
    place = task_folder(CLASSIFIED | {"transfer.tsv": "label\nscore\n"})
    assert list(read_task("classification", folders=place).transfer["text"]) == ["label", "score"]


def test_json_lines_and_parquet(task_folder):
    rows = [{"tokens": ["Anna"], "ner_tags": ["B-PER"]}, {"tokens": ["in", "Bonn"], "ner_tags": ["O", "B-LOC"]}]
    place = task_folder({"train.jsonl": "\n".join(map(json.dumps, rows))})
    Dataset.from_list(rows[1:]).to_parquet(place / "validation.parquet")
    task = read_task("tagging", folders=place)
    assert named(task, "train") == [["B-PER"], ["O", "B-LOC"]]
    assert named(task, "dev") == [["O", "B-LOC"]]


# --- Datasets ---------------------------------------------------------------------------------------------------------


def test_saved_datasets_name_their_classes(tmp_path, log):
    features = Features({"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=["O", "B-X", "I-X"]))})
    rows = Dataset.from_dict({"tokens": [["a", "b"], ["c"]], "ner_tags": [[0, 1], [1]]}, features=features)
    DatasetDict(train=rows, validation=rows).save_to_disk(str(tmp_path / "ner"))
    task = read_task("tagging", folders=f"en={tmp_path / 'ner'}")
    assert task.labels == ("O", "B-X", "I-X")
    assert task.splits["dev"][0] == {"words": ["a", "b"], "labels": [0, 1], "language": "en"}


@pytest.mark.parametrize(
    "columns", [("sentence1", "sentence2"), ("question", "sentence"), ("premise", "hypothesis"), ("text1", "text2")]
)
def test_pairs_go_by_their_usual_names(tmp_path, log, columns):
    first, second = columns
    features = Features({first: Value("string"), second: Value("large_string"), "label": ClassLabel(names=["n", "y"])})
    rows = Dataset.from_dict({first: ["a", "b", "c"], second: ["d", "e", "f"], "label": [1, -1, 0]}, features=features)
    hidden = Dataset.from_dict({first: ["g"], second: ["h"], "label": [-1]}, features=features)
    DatasetDict(train=rows, dev=rows, test=hidden).save_to_disk(str(tmp_path / "pairs"))
    task = read_task("classification", folders=tmp_path / "pairs", transfer=str(tmp_path / "pairs"), pairs=True)
    assert task.labels == ("n", "y")
    assert task.splits["train"][:]["text_pair"] == ["d", "f"]
    assert task.splits["train"][:]["labels"] == [1, 0]
    assert list(task.splits) == ["train", "dev"], "no test row has a label"
    assert "(test): 1 of 1 rows have no label and were left out." in log.text
    assert task.transfer[:] == {"text": ["a", "b", "c"], "text_pair": ["d", "e", "f"]}


def test_one_dataset_is_training_rows_in_a_folder_and_any_split_by_name(tmp_path):
    Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}).save_to_disk(str(tmp_path / "one"))
    task = read_task("classification", folders=str(tmp_path / "one"), dev=str(tmp_path / "one"))
    assert [len(rows) for rows in task.splits.values()] == [2, 2]


def test_a_configuration_of_a_dataset_is_named_behind_a_colon(monkeypatch):
    rows = {"sentence1": ["a b", "c"], "sentence2": ["d", "e f"]}
    labelled = Dataset.from_dict(rows | {"label": [0, 1]}).cast_column("label", ClassLabel(names=["no", "yes"]))
    secret = Dataset.from_dict(rows | {"label": [-1, -1]}).cast_column("label", ClassLabel(names=["no", "yes"]))
    asked = []

    def load_dataset(*name, split=None):
        asked.append(name)
        return DatasetDict(train=labelled, validation_matched=labelled, test_matched=secret)

    monkeypatch.setattr("retort.data.readers.datasets.load_dataset", load_dataset)
    task = read_task("classification", folders="nyu-mll/glue:mnli", pairs=True)
    assert set(asked) == {("nyu-mll/glue", "mnli")}
    assert task.labels == ("no", "yes")
    assert set(task.splits) == {"train", "dev"}  # the labels of the test split are secret


# --- Splits and places ------------------------------------------------------------------------------------------------


def test_files_named_for_a_split_take_the_place_of_the_folders(task_folder):
    place = task_folder(
        TAGGED | {"transfer.txt": "from the folder\n", "new.tsv": "in Bonn\tO B-LOC\n", "new.txt": "a\nb\n"}
    )
    task = read_task(
        "tagging", folders=place, train=f"de={place / 'new.tsv'}", transfer=place / "new.txt", labels=("O", "B-LOC")
    )
    assert task.splits["train"][:] == {"words": [["in", "Bonn"]], "labels": [[0, 1]], "language": ["de"]}
    assert len(task.splits["dev"]) == 2
    assert list(task.transfer["text"]) == ["a", "b"]
    assert list(read_task("tagging", folders=place).transfer["text"]) == ["from the folder"]


def test_several_folders_go_together_each_in_its_language(task_folder, log):
    one, other = task_folder(CLASSIFIED, "a"), task_folder({"train.tsv": "gut\tgood\n"}, "b")
    task = read_task("classification", folders=[f"aa={one}", f"bb={other}"])
    assert task.labels == ("good", "neg", "pos")
    assert list(task.splits["train"]["language"]) == ["aa", "aa", "bb"]
    assert "1 of 2 folders have no dev" in log.text


def test_an_equals_sign_in_the_name_of_what_exists_is_its_own(task_folder, monkeypatch):
    monkeypatch.chdir(task_folder(CLASSIFIED, "de=x").parent)
    task = read_task("classification", folders="de=x")
    assert set(task.splits["train"]["language"]) == {""}


def test_languages_before_tags_win_over_those_of_entries(task_folder):
    place = task_folder({"train.tsv": "Anna in\tfr:B-PER fr:O\nno one\tO O\n", "dev.tsv": "Anna\tde:B-PER\nx y\tO O\n"})
    task = read_task("tagging", folders=f"en={place}")
    assert task.labels == ("O", "B-PER")
    assert list(task.splits["train"]["language"]) == ["fr", "en"]
    assert list(task.splits["dev"]["language"]) == ["de", "en"]


@pytest.mark.promise(6)
def test_without_dev_the_same_tenth_of_train_is_held_out(task_folder, log):
    place = task_folder({"train.tsv": "".join(f"text {i}\t{i % 2}\n" for i in range(50)), "test.tsv": "test\t1\n"})
    task = read_task("classification", folders=place)
    assert "There is no dev split: 5 of 50 training rows are held out" in log.text
    train, dev = (set(task.splits[split]["text"]) for split in ("train", "dev"))
    assert (len(train), len(dev)) == (45, 5)
    assert train | dev == {f"text {i}" for i in range(50)}
    assert set(task.transfer["text"]) == train, "held-out rows are not learnt from either"
    again = read_task("classification", folders=place)
    assert list(again.splits["dev"]["text"]) == list(task.splits["dev"]["text"])


@pytest.mark.promise(6)
def test_rows_of_test_that_occur_in_train_are_counted(task_folder, log):
    read_task(
        "classification", folders=task_folder(CLASSIFIED | {"test.tsv": "Good  film\tpos\nbad film\tneg\nx\tneg\n"})
    )
    assert "2 of 3 rows of test have a text that occurs in train" in log.text
    assert "rows of dev" not in log.text
    log.clear()
    read_task("tagging", folders=task_folder(TAGGED | {"test.tsv": "no one\tO O\none no\tO O\n"}))
    assert "1 of 2 rows of test have a text that occurs in train" in log.text


def test_transfer_text_is_not_held_in_memory_nor_thinned_out(task_folder):
    place = task_folder(TAGGED | {"transfer.txt": "same\nsame\n"})
    transfer = read_task("tagging", folders=place).transfer
    assert list(transfer["text"]) == ["same", "same"]
    assert transfer.cache_files


@pytest.mark.parametrize("name", ["more.conll", "train.tsv", "more.jsonl"])
def test_labelled_files_serve_as_transfer_sets_for_tagging(task_folder, name):
    files = {"more.conll": "no\tO\none\tB-X\n", "more.jsonl": '{"tokens": ["no", "one"]}\n'}
    place = task_folder(TAGGED | files)
    task = read_task("tagging", folders=place, transfer=[place / name])
    assert "no one" in task.transfer["text"]
    assert task.transfer.column_names == ["text"]


# --- Labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "rows", "labels"),
    [
        ("classification", "a\t10\nb\t9\nc\t-1\n", ("-1", "9", "10")),
        ("classification", "a\tb\nb\tB\nc\ta\n", ("B", "a", "b")),
        ("tagging", "a b c\tI-X B-X O\nd\tB-A\n", ("O", "B-A", "B-X")),
        ("tagging", "a b c\tNOUN O ADJ\n", ("O", "ADJ", "NOUN")),
        ("tagging", "a b c\t2 10 1\n", ("1", "2", "10")),
    ],
)
def test_labels_come_from_train_in_order(task_folder, kind, rows, labels):
    place = task_folder({"train.tsv": rows})
    assert read_task(kind, folders=place, dev=place / "train.tsv").labels == labels


def test_a_list_of_labels_gives_the_order(task_folder):
    place = task_folder(TAGGED | {"labels.tsv": "B-LOC\nB-PER\nO\nI-PER\n", "mine.txt": "B-PER\nB-LOC\nO"})
    assert read_task("tagging", folders=place).labels == ("B-LOC", "B-PER", "O", "I-PER")
    assert read_task("tagging", folders=place).splits["train"][0]["labels"] == [1, 2, 2, 0]
    assert read_task("tagging", folders=place, labels=place / "mine.txt").labels == ("B-PER", "B-LOC", "O")
    assert read_task("tagging", folders=place, labels=["O", "B-LOC", "B-PER"]).labels == ("O", "B-LOC", "B-PER")


def test_a_models_classes_give_the_order(task_folder):
    config = BertConfig(id2label=dict(enumerate(("B-PER", "O", "B-ORG", "B-LOC"))))
    task = read_task("tagging", folders=task_folder(TAGGED), labels=config)
    assert task.labels == ("B-PER", "O", "B-ORG", "B-LOC")
    assert task.splits["train"]["labels"][0] == [0, 1, 1, 3]


def test_classes_without_names_go_by_the_order_that_the_task_would_have(task_folder):
    folder = task_folder(CLASSIFIED)
    assert read_task("classification", folders=folder, labels=BertConfig(num_labels=2)).labels == ("neg", "pos")


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("config", "message"),
    [
        (BertConfig(num_labels=3), "The model has 3 classes without names, but the task has 2: neg, pos"),
        (BertConfig(num_labels=1), "The model has 1 classes without names, but the task has 2: neg, pos"),
        (BertConfig(id2label={0: "good", 1: "bad"}), "unknown label 'neg', expected one of good, bad"),
    ],
)
def test_a_model_of_other_classes_is_refused(config, message, task_folder):
    with pytest.raises(ValueError, match=message):
        read_task("classification", folders=task_folder(CLASSIFIED), labels=config)


def test_real_numbers_make_a_regression(task_folder, log):
    place = task_folder(
        {"train.tsv": "text1\ttext2\tscore\nc\td\t5\ne\tf\t3.25\ng\th\t-1e-1\n", "dev.tsv": "i\tj\t4\n"}
    )
    task = read_task("classification", folders=place, pairs=True)
    assert task.labels == ()
    assert task.splits["train"].features["labels"] == Value("float64")
    assert list(task.splits["train"]["labels"]) == [5.0, 3.25, -0.1]
    assert list(task.splits["dev"]["labels"]) == [4.0]
    assert "this is a regression" in log.text


# --- Tag schemes ------------------------------------------------------------------------------------------------------


def test_iob1_is_converted(task_folder, log):
    place = task_folder({"train.tsv": "a b c d\tI-PER I-PER B-PER O\n", "dev.tsv": "a b\tI-PER I-PER\n"})
    task = read_task("tagging", folders=place)
    assert named(task, "train") == [["B-PER", "I-PER", "B-PER", "O"]]
    assert named(task, "dev") == [["B-PER", "I-PER"]]
    assert "train.tsv is in IOB1 and was converted to IOB2: 1 tags I- became B-." in log.text


def test_an_i_that_continues_nothing_becomes_b(task_folder, log):
    place = task_folder(
        {"train.conll": "a\tB-LOC\nb\tI-PER\nc\tI-PER\n\nd\tO\ne\tI-LOC\n\nf\tB-PER\n", "dev.tsv": "a b\tB-PER I-PER\n"}
    )
    task = read_task("tagging", folders=place)
    assert named(task, "train") == [["B-LOC", "B-PER", "I-PER"], ["O", "B-LOC"], ["B-PER"]]
    assert "train.conll: 2 tags I- don't continue a span (not IOB2) and are read as B-." in log.text
    assert "dev.tsv" not in log.text


# --- The cache --------------------------------------------------------------------------------------------------------


def test_rows_have_the_same_fingerprints_in_every_process(task_folder, tmp_path):
    rows = [{"tokens": ["Anna", "in"], "ner_tags": ["B-PER", "O"]}] * 3
    place = task_folder({"train.jsonl": "\n".join(map(json.dumps, rows)), "more.conll": "Anna\tB-PER\nin\tO\n" * 9})
    code = (
        "from retort.data import read_task\n"
        f"task = read_task('tagging', train=['{place}/train.jsonl', 'xx={place}/more.conll'])\n"
        "print([rows._fingerprint for rows in (*task.splits.values(), task.transfer)])\n"
    )
    printed = [
        run([sys.executable, "-c", code], os.environ | {"HF_DATASETS_CACHE": str(tmp_path / name)}) for name in "ab"
    ]
    lines = [output.strip().splitlines()[-1] for output in printed]
    assert lines[0].startswith("['")
    assert lines[0] == lines[1]


def test_rows_change_with_the_file_and_with_the_labels(task_folder):
    first = read_task("classification", folders=task_folder(CLASSIFIED))
    same = read_task("classification", folders=task_folder(CLASSIFIED))
    assert same.splits["train"].cache_files == first.splits["train"].cache_files
    turned = read_task("classification", folders=task_folder(CLASSIFIED), labels=["pos", "neg"])
    assert list(turned.splits["train"]["labels"]) == [0, 1]
    changed = read_task("classification", folders=task_folder({"train.tsv": "good film\tpos\nfilm\tneg\n"}))
    assert list(changed.splits["train"]["text"]) == ["good film", "film"]
    fingerprints = {task.splits["train"]._fingerprint for task in (first, same, turned, changed)}
    assert len(fingerprints) == 3
