"""Reads scored and labelled sentences: SentEval's data and similar tables of pairs.

SentEval's data is expected in the folder data/downstream of https://github.com/facebookresearch/SentEval, as its
download script leaves it.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset, Value, concatenate_datasets
from pyarrow import ArrowInvalid, ArrowNotImplementedError

from .datasets import read_dataset, require_texts
from .lines import format_of, lines_of, without_line_end
from .tables import TABLES, cells_of

STS_SUBSETS = {
    "STS12": ("MSRpar", "MSRvid", "SMTeuroparl", "surprise.OnWN", "surprise.SMTnews"),
    "STS13": ("FNWN", "headlines", "OnWN"),
    "STS14": ("deft-forum", "deft-news", "headlines", "images", "OnWN", "tweet-news"),
    "STS15": ("answers-forums", "answers-students", "belief", "headlines", "images"),
    "STS16": ("answer-answer", "headlines", "plagiarism", "postediting", "question-question"),
}
_STS_COLUMNS = ("sentence1", "sentence2", "score")

# Files of a class each; the first is the one that SentEval calls positive.
BINARY = {
    "MR": ("MR/rt-polarity.pos", "MR/rt-polarity.neg"),
    "CR": ("CR/custrev.pos", "CR/custrev.neg"),
    "SUBJ": ("SUBJ/subj.objective", "SUBJ/subj.subjective"),
    "MPQA": ("MPQA/mpqa.pos", "MPQA/mpqa.neg"),
}
STS_TASKS = (*STS_SUBSETS, "STSBenchmark", "SICKRelatedness")
TRANSFER_TASKS = (*BINARY, "SST2", "TREC", "MRPC")
# The scale of the annotators.
_SCORES = (0.0, 5.0)
_CLASSES = ("0", "1")
_ANY_SCORE = (-math.inf, math.inf)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
TREC_CLASSES = ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")


@dataclass(frozen=True)
class LabelledTexts:
    """Labelled texts or pairs in SentEval's order: by length in words, then by class.

    The order matters for cross-validation folds.
    """

    texts: Sequence[str]
    labels: Sequence[int]
    second: Sequence[str] | None = None


def read_sts_task(folder: str | Path, name: str, split: str = "test") -> dict[str, Dataset]:
    """The subsets of an STS task, by name: columns `sentence1`, `sentence2`, `score`.

    Args:
        folder: `data/downstream` of SentEval.
        name: one of `STS_TASKS`.
        split: `train`, `dev` or `test` of STSBenchmark and SICKRelatedness. The other tasks have only test sets.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a row has too few columns or a score that is not a number (with file and line).
    """
    folder = Path(folder)
    if name not in STS_TASKS:
        raise ValueError(f"There is no STS task {name!r}, only {', '.join(STS_TASKS)}.")
    if name in STS_SUBSETS:
        home = folder / "STS" / f"{name}-en-test"
        return {subset: _read_subset(home, subset) for subset in STS_SUBSETS[name]}
    if name == "STSBenchmark":
        file = folder / "STS" / "STSBenchmark" / f"sts-{split}.csv"
        return {name: _scored(file, _rows(file, columns=7), (5, 6, 4), _SCORES)}
    kind = {"train": "train", "dev": "trial", "test": "test_annotated"}[split]
    file = folder / "SICK" / f"SICK_{kind}.txt"
    return {name: _scored(file, _below_header(file, _rows(file, columns=4), "pair_ID"), (1, 2, 3), _SCORES)}


def read_scored_pairs(file: str | Path) -> Dataset:
    """Read pairs from a table with the columns sentence, sentence, score, or with a header row.

    A header row must contain `sentence1`, `sentence2` and `score`, which are the columns of the result. STS2017's
    cross-lingual sets (`STS.en-de.txt`) have no header row, those of stsb_multi_mt have one. Quotes are read as by
    `read_dataset`.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: a row has too few columns or a score that is not a finite number (with file and line).
    """
    file = Path(file).expanduser()
    if not file.is_file():
        raise FileNotFoundError(
            f"There is no file {file} (in {Path.cwd()}). Expected is a table of {', '.join(_STS_COLUMNS)}."
        )
    rows = [(number, cells) for number, cells in cells_of(file) if cells]
    has_header = bool(rows) and set(_STS_COLUMNS) <= set(rows[0][1])
    places = tuple(map(rows[0][1].index, _STS_COLUMNS)) if has_header else (0, 1, 2)
    try:
        wide = list(_wide_enough(file, rows, columns=max(places) + 1))
        return _scored(file, wide[has_header:], places, _ANY_SCORE)
    except ValueError as error:
        named = ", ".join(f"{name} in column {place + 1}" for name, place in zip(_STS_COLUMNS, places, strict=True))
        raise ValueError(f"{error} Read are {named}.") from None


def read_sts(source: str) -> Dataset:
    """Read pairs with gold scores: columns `sentence1`, `sentence2`, `score`.

    Args:
        source: a TSV with a header row, or without one and in this order (as in STS 2017), or a dataset with these
            columns. Two sources with a plus between them (`en.tsv+de.tsv`), whose rows are translations of each other,
            give cross-lingual pairs: `sentence1` of the first and `sentence2` of the second.

    Raises:
        ValueError: the scores of two sources differ, a score is not a finite number, a text is missing, there is one
            pair alone, or all scores are equal, so that nothing correlates with them.
    """
    pairs = _read_sts(source)
    if len(pairs) == 1:
        raise ValueError(f"{source} has one pair. A correlation needs several.")
    if len(set(pairs["score"][:])) == 1:
        raise ValueError(f"{source}: all {len(pairs)} scores are {pairs['score'][0]:g}. Nothing correlates with them.")
    return pairs


def _read_sts(source: str) -> Dataset:
    first, plus, second = source.partition("+")
    if not plus or Path(source).expanduser().exists():
        if format_of(Path(source)) not in (*TABLES, ".txt"):
            pairs = _cast_scores(read_dataset(source), source)
            wrong = np.flatnonzero(~np.isfinite(np.asarray(pairs.with_format("numpy")["score"][:], dtype=float)))
            if len(wrong):
                raise ValueError(f"{source}, row {wrong[0] + 1} (from 1): the score is not a finite number.")
            require_texts(pairs, _STS_COLUMNS[:2], source)
            return pairs
        return read_scored_pairs(source)
    sides = [_read_sts(first), _read_sts(second)]
    if sides[0]["score"][:] != sides[1]["score"][:]:
        raise ValueError(
            f"Rows of {first} and {second} must be translations of each other, but their scores differ "
            f"({len(sides[0])} and {len(sides[1])} rows)."
        )
    return concatenate_datasets(
        [sides[0].select_columns(["sentence1", "score"]), sides[1].select_columns("sentence2")], axis=1
    )


def _cast_scores(pairs: Dataset, source: str) -> Dataset:
    """The columns of scored pairs, with scores as float64."""
    kinds = {name: getattr(feature, "dtype", type(feature).__name__) for name, feature in pairs.features.items()}
    texts = [kinds.get(name, "").endswith("string") for name in _STS_COLUMNS[:2]]
    if not all(texts) or "score" not in kinds:
        raise ValueError(
            f"{source}: expected the columns sentence1 and sentence2 (text) and score (a number), but there are "
            f"{', '.join(f'{name} ({kind})' for name, kind in kinds.items())}."
        )
    try:
        return pairs.select_columns(list(_STS_COLUMNS)).cast_column("score", Value("float64"))
    except (ArrowInvalid, ArrowNotImplementedError) as error:
        raise ValueError(f"{source}: the column score holds no numbers: {error}") from error


def read_transfer_task(folder: str | Path, name: str) -> dict[str, LabelledTexts]:
    """The splits of a transfer task: only `train`; `train` and `test`; or `train`, `dev` and `test`.

    Args:
        folder: `data/downstream` of SentEval.
        name: one of `TRANSFER_TASKS`.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a row is malformed (with file and line).
    """
    folder = Path(folder)
    if name not in TRANSFER_TASKS:
        raise ValueError(f"There is no transfer task {name!r}, only {', '.join(TRANSFER_TASKS)}.")
    if name in BINARY:
        sides = [(_lines(folder / file, "latin-1"), label) for file, label in zip(BINARY[name], (1, 0), strict=True)]
        return {"train": _labelled((label, line) for lines, label in sides for _, line in lines)}
    if name == "SST2":
        home = folder / "SST" / "binary"
        return {split: _labelled(_sst(home / f"sentiment-{split}")) for split in ("train", "dev", "test")}
    if name == "TREC":
        files = {"train": "train_5500.label", "test": "TREC_10.label"}
        return {split: _labelled(_trec(folder / "TREC" / file)) for split, file in files.items()}
    files = {split: folder / "MRPC" / f"msr_paraphrase_{split}.txt" for split in ("train", "test")}
    return {split: _labelled(_mrpc(file)) for split, file in files.items()}


def _read_subset(home: Path, subset: str) -> Dataset:
    file, gold = home / f"STS.input.{subset}.txt", home / f"STS.gs.{subset}.txt"
    pairs, scores = list(_rows(file, columns=2)), list(_lines(gold))
    # Pairs without a score have blank lines, which may be at the end of the file.
    scores += [(len(scores) + 1, "")] * min(len(pairs) - len(scores), _blank_lines_at_the_end(gold))
    if len(pairs) != len(scores):
        raise ValueError(f"{file} has {len(pairs)} pairs, but {gold} has {len(scores)} scores.")
    judged = [(n, [*pair[:2], score]) for (_, pair), (n, score) in zip(pairs, scores, strict=True) if score.strip()]
    return _scored(gold, judged, (0, 1, 2), _SCORES)


def _scored(
    file: Path, rows: Iterable[tuple[int, list[str]]], at: tuple[int, ...], between: tuple[float, float]
) -> Dataset:
    """Read sentence, sentence and score from the columns `at` of rows."""
    first, second, score = at
    found = [(_spaced(row[first]), _spaced(row[second]), _number(file, n, row[score], between)) for n, row in rows]
    if not found:
        raise ValueError(f"{file} has no pairs.")
    return Dataset.from_dict(dict(zip(_STS_COLUMNS, zip(*found, strict=True), strict=True)))


def _sst(file: Path) -> Iterator[tuple[int, str]]:
    for number, row in _rows(file, columns=2):
        if len(row) > 2:
            raise ValueError(f"{file}:{number}: expected 2 columns, but found {len(row)}.")
        yield _class(file, number, row[1]), row[0]


def _trec(file: Path) -> Iterator[tuple[int, str]]:
    for number, line in _lines(file, "latin-1"):
        label, _, rest = line.partition(":")
        if label not in TREC_CLASSES or " " not in rest:
            raise ValueError(f"{file}:{number}: expected CLASS:subclass text, but found {line[:60]!r}.")
        yield TREC_CLASSES.index(label), rest.split(" ", 1)[1]


def _mrpc(file: Path) -> Iterator[tuple[int, str, str]]:
    for number, row in _below_header(file, _rows(file, columns=5), "Quality"):
        yield _class(file, number, row[0]), row[3], row[4]


def _labelled(rows: Iterable[tuple]) -> LabelledTexts:
    """Sort rows of `(label, *texts)` in SentEval's order."""
    spaced = [(label, *map(_spaced, texts)) for label, *texts in rows]
    spaced.sort(key=lambda row: (*(len(text.split()) for text in row[1:]), row[0]))
    labels, texts, *second = map(list, zip(*spaced, strict=True))
    return LabelledTexts(texts, labels, *second)


def _require(file: Path) -> None:
    if not file.is_file():
        raise FileNotFoundError(
            f"There is no {file}. Expected the folder data/downstream of SentEval, as written by its "
            "get_transfer_data.bash."
        )


def _lines(file: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Lines with their numbers, from 1, without blank lines at the end."""
    _require(file)
    blank: list[tuple[int, str]] = []
    number = 0
    for number, line in enumerate(map(without_line_end, lines_of(file, encoding)), 1):
        blank.append((number, line))
        if "\t" in line or line.strip():  # a line with a tab has two cells, even if they are empty
            yield from blank
            blank.clear()
    if len(blank) == number:
        raise ValueError(f"{file} holds no rows.")


def _blank_lines_at_the_end(file: Path) -> int:
    return sum(1 for _ in lines_of(file)) - max(number for number, _ in _lines(file))


def _rows(file: Path, columns: int) -> Iterator[tuple[int, list[str]]]:
    """Rows of a table without quoting, with their numbers."""
    return _wide_enough(file, ((number, line.split("\t")) for number, line in _lines(file)), columns)


def _wide_enough(file: Path, rows: Iterable[tuple[int, list[str]]], columns: int) -> Iterator[tuple[int, list[str]]]:
    for number, row in rows:
        if len(row) < columns:
            raise ValueError(f"{file}:{number}: expected {columns} columns, but found {len(row)}.")
        yield number, row


def _below_header(file: Path, rows: Iterator[tuple[int, list[str]]], name: str) -> Iterator[tuple[int, list[str]]]:
    number, header = next(rows, (1, [""]))
    if header[0] != name:
        raise ValueError(f"{file}:{number}: expected a header row that begins with {name}, but found {header[0]!r}.")
    if (first := next(rows, None)) is None:
        raise ValueError(f"{file} has a header row, but no other rows.")
    yield first
    yield from rows


def _number(file: Path, line: int, text: str, between: tuple[float, float]) -> float:
    score = float(text) if _NUMBER.fullmatch(text.strip()) else math.nan
    if not math.isfinite(score):
        raise ValueError(f"{file}:{line}: expected a number, but found {text!r}.")
    if not between[0] <= score <= between[1]:
        raise ValueError(f"{file}:{line}: expected a score from {between[0]:g} to {between[1]:g}, but found {text!r}.")
    return score


def _class(file: Path, line: int, text: str) -> int:
    if text.strip() not in _CLASSES:
        raise ValueError(f"{file}:{line}: expected a number, {' or '.join(_CLASSES)}, but found {text!r}.")
    return int(text)


def _spaced(text: str) -> str:
    return " ".join(text.split())
