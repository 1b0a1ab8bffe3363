"""Parallel text from files to batches."""

import gzip

import pytest
import tiny

from retort.data import read_parallel, tokenize_groups

ROWS = [("one cat", "eine Katze"), ("a dog", "ein Hund"), ("the house", "das Haus")]


def written(path, rows, columns="\t"):
    text = "".join(columns.join(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.write(text)
    else:
        path.write_text(text, encoding="utf-8")
    return str(path)


def pairs(dataset):
    return list(zip(dataset["source"], dataset["target"], strict=True))


@pytest.mark.parametrize("name", ["de.tsv", "de.tsv.gz"])
def test_rows_are_sentences_and_their_translations(name, tmp_path):
    assert pairs(read_parallel([written(tmp_path / name, ROWS)])) == ROWS


def test_each_further_translation_is_a_source_of_its_own(tmp_path):
    file = written(tmp_path / "many.tsv", [("a cat", "eine Katze", "un chat"), ("a dog", "ein Hund", "un chien")])
    found = pairs(read_parallel([f"{file}:0,1", f"{file}:0,2"]))
    assert found == [("a cat", "eine Katze"), ("a dog", "ein Hund"), ("a cat", "un chat"), ("a dog", "un chien")]


def test_two_columns_of_one_dataset(tmp_path):
    file = written(tmp_path / "all.tsv", [("id", "de", "en"), *((str(n), b, a) for n, (a, b) in enumerate(ROWS))])
    assert pairs(read_parallel([f"{file}:en,de"])) == ROWS


@pytest.mark.promise(9)
@pytest.mark.parametrize(("columns", "message"), [(":0", "other: .*:0,1"), (":0,0", "names a column twice")])
def test_numbered_columns_that_are_not_two_are_refused(columns, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_parallel([written(tmp_path / "de.tsv", ROWS) + columns])


@pytest.mark.promise(9)
@pytest.mark.parametrize("columns", [":en", ":en,de,id"])
def test_columns_that_are_not_two_are_refused(columns, tmp_path):
    file = written(tmp_path / "all.tsv", [("id", "de", "en"), ("1", "eine Katze", "one cat")])
    with pytest.raises(ValueError, match="name the two columns that translate each other"):
        read_parallel([file + columns])


def test_files_whose_rows_translate_each_other(tmp_path):
    english = written(tmp_path / "en.tsv", [("first", "second"), ("a", "b"), ("c", "d")])
    german = written(tmp_path / "de.tsv", [("x", "y", "first"), ("B", "0", "A"), ("D", "0", "C")])
    found = read_parallel([f"{english}:first,second+{german}:first,x"])
    assert pairs(found) == [("a", "A"), ("c", "C"), ("b", "B"), ("d", "D")]
    with pytest.raises(ValueError, match="they have 2 and 3 rows"):
        read_parallel([f"{english}:first+{written(tmp_path / 'long.tsv', ROWS)}:1"])


def test_what_is_left_out_is_counted(tmp_path, caplog):
    rows = [*ROWS, ("a  CAT", "x"), ("x", "y" * 41), ("", "leer"), ROWS[0], ("blank", " ")]
    file = written(tmp_path / "de.tsv", rows)
    found = read_parallel([file], exclude=["A cat", "das haus"], max_characters=40)
    assert pairs(found) == ROWS[:2]
    assert (
        f"Of 8 pairs in {file}, left out: 2 empty, 1 longer than 40 characters, 2 excluded, 1 repeated." in caplog.text
    )
    with pytest.raises(ValueError, match=r"No pair is left of .*3 excluded"):
        read_parallel([written(tmp_path / "few.tsv", ROWS)], exclude=[source for source, _ in ROWS])


@pytest.mark.parametrize(("alpha", "counts"), [(1.0, (64, 4)), (0.5, (64, 16)), (0.0, (64, 64))])
def test_small_files_are_repeated_as_alpha_says(alpha, counts, tmp_path):
    many = written(tmp_path / "de.tsv", [(f"s{i}", f"d{i}") for i in range(64)])
    few = written(tmp_path / "fr.tsv", [(f"s{i}", f"f{i}") for i in range(4)])
    found = pairs(read_parallel([many, few], alpha=alpha))
    french = [target for _, target in found if target.startswith("f")]
    assert (len(found) - len(french), len(french)) == counts
    assert {french.count(target) for target in french} == {counts[1] // 4}


def test_the_first_rows_of_a_long_file(tmp_path):
    assert pairs(read_parallel([written(tmp_path / "de.tsv", ROWS)], max_rows=2)) == ROWS[:2]


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a cat\teine Katze\na dog\n", r"de.tsv:2: this row has no translation: .* but found 'a dog'"),
        (b"", r"de.tsv is empty"),
        (b"\n\n", r"de.tsv holds no rows"),
        ("a cat\tK\u00e4tzchen\n".encode("latin-1"), r"de.tsv:1: not UTF-8: byte 0xe4"),
    ],
)
def test_files_that_are_no_parallel_text_are_refused(content, message, tmp_path):
    (tmp_path / "de.tsv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_parallel([str(tmp_path / "de.tsv")])


@pytest.mark.promise(9)
def test_a_missing_file_and_an_impossible_alpha_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*none.tsv"):
        read_parallel([str(tmp_path / "none.tsv")])
    with pytest.raises(ValueError, match="alpha=2"):
        read_parallel([written(tmp_path / "de.tsv", ROWS)], alpha=2)


def test_a_teacher_reads_the_sentences_in_its_own_tokens(tokenizer, tmp_path):
    theirs = tiny.tokenizer("bpe")
    rows = tokenize_groups(read_parallel([written(tmp_path / "de.tsv", ROWS)]), tokenizer, teacher_tokenizer=theirs)
    assert rows["teacher_input_ids"][:] == [theirs(source)["input_ids"] for source, _ in ROWS]
    assert rows["members"][0] == [tokenizer(text)["input_ids"] for text in ROWS[0]]
