"""Files become rows, or an error that names the file and the line."""

import gzip
import json
import logging
import sys

import datasets
import pytest
from datasets import Dataset, DatasetDict
from processes import run

from retort import read_dataset
from retort.data import read_texts

pytestmark = pytest.mark.usefixtures("own_cache")


# --- Formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_text_files_hold_one_text_per_line(write, name):
    rows = read_dataset(write(name, "one\n two \n\nfünf\u2028still\r\nlast"))
    assert rows[:] == {"text": ["one", " two ", "", "fünf\u2028still", "last"]}


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
def test_tsv_files_know_no_quotes(write, name):
    rows = read_dataset(write(name, 'left\tright\n"open\tsaid "so"\n1.0\tNA\n'))
    assert rows[:] == {"left": ['"open', "1.0"], "right": ['said "so"', "NA"]}


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_csv_files_do(write, name):
    rows = read_dataset(write(name, 'left,right\n"a, ""b""\nc",d\n'))
    assert rows[:] == {"left": ['a, "b"\nc'], "right": ["d"]}


def test_tables_without_a_header_take_the_names_given(write):
    file = write("a.tsv", "one\ttwo\nthree\tfour\n")
    assert read_dataset(file, columns=["en", "de"])[:] == {"en": ["one", "three"], "de": ["two", "four"]}
    assert read_dataset(file)[:] == {"one": ["three"], "two": ["four"]}


def test_json_lines_keep_their_types(write):
    file = write("a.jsonl", '{"words": ["a", "b"], "tags": [0, 1]}\n{"words": [], "tags": []}\n')
    assert read_dataset(file)[:] == {"words": [["a", "b"], []], "tags": [[0, 1], []]}


def test_a_byte_order_mark_is_no_part_of_the_text(write):
    assert read_dataset(write("a.csv", b"\xef\xbb\xbftext\nb\n"))[:] == {"text": ["b"]}


@pytest.mark.parametrize(
    "word", ["b\u2028c", "b\x85c", "😀👩‍👩‍👧", "x" * 10_000_000], ids=["U+2028", "NEL", "emoji", "10 MB"]
)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("name", ["a.txt", "a.tsv", "a.csv", "a.jsonl"])
def test_a_mark_and_odd_characters_part_no_row(write, name, end, word):
    texts = ["first", f"a {word}", word, "last"]
    lines = {
        "a.txt": texts,
        "a.tsv": ["text\tlabel", *(f"{text}\tx" for text in texts)],
        "a.csv": ["text,label", *(f"{text},x" for text in texts)],
        "a.jsonl": [json.dumps({"text": text}, ensure_ascii=False) for text in texts],
    }[name]
    contents = "\ufeff" + "".join(line + end for line in lines)
    assert read_dataset(write(name, contents.encode()))["text"][:] == texts


def test_parquet_arrow_and_saved_folders(tmp_path):
    rows = Dataset.from_dict({"text": ["a", "b"]})
    rows.to_parquet(str(tmp_path / "a.parquet"))
    rows.save_to_disk(str(tmp_path / "folder"))
    for source in (tmp_path / "a.parquet", tmp_path / "folder", tmp_path / "folder/data-00000-of-00001.arrow"):
        assert read_dataset(source)[:] == rows[:]


def test_a_folder_of_data_files_is_read_as_datasets_reads_it(tmp_path):
    for split in ("train", "test"):
        Dataset.from_dict({"text": [split]}).to_parquet(str(tmp_path / "data" / f"{split}.parquet"))
    assert read_dataset(tmp_path / "data")["text"][0] == "train"
    assert read_dataset(tmp_path / "data", split="test")["text"][0] == "test"


def test_a_folder_of_several_splits_gives_train_unless_told_otherwise(tmp_path):
    splits = {name: Dataset.from_dict({"text": [name]}) for name in ("dev", "train")}
    DatasetDict(splits).save_to_disk(str(tmp_path / "both"))
    assert read_dataset(tmp_path / "both")["text"][0] == "train"
    assert read_dataset(tmp_path / "both", split="dev")["text"][0] == "dev"
    DatasetDict(dev=splits["dev"]).save_to_disk(str(tmp_path / "one"))
    assert read_dataset(tmp_path / "one")["text"][0] == "dev"
    with pytest.raises(ValueError, match="no split 'test', only dev, train"):
        read_dataset(tmp_path / "both", split="test")


# --- The cache --------------------------------------------------------------------------------------------------------


def test_a_file_that_has_changed_is_read_anew(write):
    file = write("a.txt", "one\n")
    first = read_dataset(file)
    assert read_dataset(file)._fingerprint == first._fingerprint
    assert read_dataset(file).cache_files == first.cache_files
    changed = read_dataset(write("a.txt", "two\n"))
    assert changed["text"][0] == "two"
    assert changed._fingerprint != first._fingerprint
    assert first["text"][0] == "one"


def test_the_same_bytes_under_other_names_for_columns_or_formats_are_other_rows(write):
    table = "a\tb\nc\td\n"
    assert read_dataset(write("a.tsv", table)).column_names == ["a", "b"]
    assert read_dataset(write("a.tsv", table), columns=["x", "y"]).column_names == ["x", "y"]
    assert read_dataset(write("a.txt", table)).column_names == ["text"]
    assert read_dataset(write("a.csv", table)).column_names == ["a\tb"]


def test_a_failed_conversion_leaves_nothing_that_a_later_one_would_take(write):
    with pytest.raises(ValueError, match=r"a\.tsv:3"):
        read_dataset(write("a.tsv", "a\tb\nc\td\ne\n"))
    with pytest.raises(ValueError, match=r"a\.tsv:3"):
        read_dataset(write("a.tsv", "a\tb\nc\td\ne\n"))
    assert len(read_dataset(write("a.tsv", "a\tb\nc\td\n"))) == 1


# --- Bad files --------------------------------------------------------------------------------------------------------

LONG = b"x" * 40 + b"\n"


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("a.txt", b"", r"a\.txt is empty"),
        ("a.txt.gz", b"", r"a\.txt\.gz is empty"),
        ("a.tsv", b"", r"a\.tsv is empty"),
        ("a.jsonl", b"", r"a\.jsonl is empty"),
        ("a.tsv", b"\n\r\n", r"a\.tsv holds no rows"),
        ("a.csv", b"\n", r"a\.csv holds no rows"),
        ("a.txt", LONG + b"ab\0cd", r"a\.txt:2: holds a NUL byte \(at byte 43\).*remove NUL characters from UTF-8"),
        ("a.txt", "é".encode("utf-16"), r"a\.txt:1: holds a NUL byte .*Convert UTF-16 to UTF-8 first"),
        ("a.txt", "日本".encode("utf-16"), r"a\.txt:1: not UTF-8: byte 0xff at byte 0"),
        ("a.txt", LONG + LONG + b"caf\xe9\n", r"a\.txt:3: not UTF-8: byte 0xe9 at byte 85 of the file"),
        ("a.txt", b"\xef\xbb\xbf\xe9", r"a\.txt:1: not UTF-8: byte 0xe9 at byte 3 of"),
        ("a.tsv", b"a\tb\nc\td\ne\tf\tg\n", r"a\.tsv:3: this row has 3 columns, expected 2 \(a, b\)"),
        ("a.tsv", b"a\tb\n\nc\td\n", r"a\.tsv:2: this row has 0 columns, expected 2"),
        ("a.csv", b"a,b\n\nc,d\n", r"a\.csv:2: this row has 0 columns, expected 2"),
        ("a.tsv", b"a\tb\n", r"a\.tsv has a header row \(a, b\), but no other rows"),
        ("a.tsv", b"a\ta\nb\tc\n", r"a\.tsv:1: a header row must give each column a different name"),
        ("a.tsv", b"a\t\nb\tc\n", r"a\.tsv:1: .*pass the names of its columns"),
        ("a.csv", b'a,b\n"c\nd",e\n"f,g\nh,i\n', r"a\.csv:4: the row that begins here is not CSV.*must be closed"),
        ("a.csv", b'a,b\n"c"d,e\n', r"a\.csv:2: the row that begins here is not CSV"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', r"a\.jsonl:2: this line is not JSON"),
        ("a.jsonl", b'{"a": 1}\n[1]\n', r"a\.jsonl:2: expected a JSON object .* found \[1\]"),
        ("a.jsonl", b'{"a": 1}\n{"b": 1}\n', r"a\.jsonl:2: this row has the keys b, expected a"),
        ("a.jsonl", b'{"a": 1}\n{"a": "x"}\n', r"a\.jsonl:2: 'a' holds a string here, but a number before"),
        ("a.jsonl", b'{"a": null}\n{"a": 1.5}\n{"a": null}\n{"a": [1]}\n', r"a\.jsonl:4: 'a' holds a list here"),
        ("a.parquet", b"no parquet", r"a\.parquet can't be read as \.parquet"),
        ("a.arrow", b"no arrow", r"a\.arrow can't be read as \.arrow"),
        ("a.pdf", b"%PDF", r"The format of .*a\.pdf can't be read\. Readable formats are \.txt, \.tsv"),
    ],
)
def test_bad_files_are_errors_that_name_file_and_line(write, name, contents, message):
    with pytest.raises(ValueError, match=message):
        read_dataset(write(name, contents))


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: b"no gzip at all", lambda data: data + b"tail"]
)
def test_damaged_gzip_files_are_errors(tmp_path, damage):
    file = tmp_path / "a.txt.gz"
    file.write_bytes(damage(gzip.compress(b"one\ntwo\n")))
    with pytest.raises(ValueError, match=r"a\.txt\.gz:\d: the gzip file is damaged or cut short"):
        read_dataset(file)


@pytest.mark.promise(9)
def test_sources_that_are_not_there_are_errors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for source in ("missing.tsv", "./missing", "/missing/folder", "some/long/path", "missing.txt.gz"):
        with pytest.raises(FileNotFoundError, match=f"no file or folder {source}"):
            read_dataset(source)
    with pytest.raises(FileNotFoundError, match="doesn't contain any data files"):
        read_dataset(tmp_path)


@pytest.mark.promise(8)
def test_a_name_asks_no_network_while_offline():
    code = (
        "import socket\n"
        "def refuse(*args): raise AssertionError('network')\n"
        "socket.socket.connect = refuse\n"
        "from retort.data import read_dataset\n"
        "try: read_dataset('some-owner/some-data')\n"
        "except FileNotFoundError as error: print(error)\n"
    )
    assert "There is no file or folder some-owner/some-data" in run([sys.executable, "-c", code])


@pytest.mark.promise(9)
def test_splits_and_columns_where_there_are_none_are_errors(write, tmp_path):
    with pytest.raises(ValueError, match=r"a\.txt is a file and has no split 'dev'"):
        read_dataset(write("a.txt", "a\n"), split="dev")
    with pytest.raises(ValueError, match=r"columns= is for TSV and CSV files.*a\.txt"):
        read_dataset(write("a.txt", "a\n"), columns=["a"])
    Dataset.from_dict({"text": ["a"]}).save_to_disk(str(tmp_path / "one"))
    with pytest.raises(ValueError, match="is one dataset and has no split 'dev'"):
        read_dataset(tmp_path / "one", split="dev")


# --- Texts of several sources -----------------------------------------------------------------------------------------


def test_texts_come_from_all_columns_named_in_order_and_once(write, tmp_path, caplog):
    lines = write("a.txt", "one\n\ntwo\none\n")
    table = write("b.tsv", "left\tscore\tright\nthree\t5\ttwo\nfour\t1\tTwo\n")
    pairs = write("c.tsv", "five\tfünf\nsix\tsechs\n")
    Dataset.from_dict({"text": ["seven", None]}).save_to_disk(str(tmp_path / "d"))
    with caplog.at_level(logging.WARNING, logger="retort"):
        texts = read_texts([str(lines), f"{table}:left,right", f"{pairs}:0", str(tmp_path / "d")])
    assert texts[:] == {"text": ["one", "two", "three", "four", "Two", "five", "six", "seven"]}
    assert "Of 12 texts read, left out: 2 empty, 2 repeated" in caplog.text


@pytest.mark.promise(6)
def test_excluded_texts_are_left_out_whatever_their_case_and_spacing(write, caplog):
    source = str(write("a.txt", "The  cat sat.\nThe dog sat.\nthe cat SAT.\n"))
    with caplog.at_level(logging.WARNING, logger="retort"):
        assert list(read_texts([source], exclude=[" the cat sat."])["text"]) == ["The dog sat."]
    assert "left out: 2 excluded" in caplog.text
    test_set = Dataset.from_dict({"text": ["THE DOG SAT."]})
    assert len(read_texts([source], exclude=test_set)) == 2


def test_a_colon_in_the_name_of_a_file_is_its_own(write):
    assert list(read_texts([str(write("a:0.txt", "one\n"))])["text"]) == ["one"]


def test_large_strings_and_strings_go_together(write, tmp_path):
    large = Dataset.from_dict({"t": ["big"]}, features=datasets.Features({"t": datasets.Value("large_string")}))
    large.save_to_disk(str(tmp_path / "large"))
    texts = read_texts([str(write("a.txt", "small\n")), f"{tmp_path / 'large'}:t"])
    assert texts["text"][:] == ["small", "big"]


def test_texts_of_the_same_files_have_the_same_fingerprint(write):
    sources = [str(write("a.txt", "one\ntwo\none\n"))]
    assert read_texts(sources)._fingerprint == read_texts(sources)._fingerprint
    assert read_texts(sources)._fingerprint != read_texts(sources, exclude=["two"])._fingerprint


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{}/a.tsv", "has no column 'text', only left, score.*after a colon: .*a.tsv:left"),
        ("{}/a.tsv:left,middle", "has no column 'middle', only left, score"),
        ("{}/a.tsv:2", "has no column '2', only 0, 1"),
        ("{}/a.txt:0", "columns can be numbered only in TSV and CSV"),
        ("{}/b.jsonl:n", "the column 'n' holds .*int64.*, not text"),
        ("{}/b.jsonl:l", "the column 'l' holds List.*, not text"),
        ("{}/blank.txt", "No text is left of .*; left out: 2 empty"),
    ],
)
def test_columns_that_hold_no_text_are_errors(write, tmp_path, spec, message):
    write("a.tsv", "left\tscore\nx\t1\n")
    write("a.txt", "x\n")
    write("b.jsonl", json.dumps({"n": 1, "l": ["x"]}) + "\n")
    write("blank.txt", "\n \n")
    with pytest.raises(ValueError, match=message):
        read_texts([spec.format(tmp_path)])
