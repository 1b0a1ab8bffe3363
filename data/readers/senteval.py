"""Sentences that people have scored or labelled: SentEval's data, and tables of pairs like it.

SentEval's data is read as its download script leaves it, in https://github.com/facebookresearch/SentEval's folder
data/downstream.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset, Value, concatenate_datasets

from .datasets import read_dataset

STS_SUBSETS = {
    "STS12": ("MSRpar", "MSRvid", "SMTeuroparl", "surprise.OnWN", "surprise.SMTnews"),
    "STS13": ("FNWN", "headlines", "OnWN"),
    "STS14": ("deft-forum", "deft-news", "headlines", "images", "OnWN", "tweet-news"),
    "STS15": ("answers-forums", "answers-students", "belief", "headlines", "images"),
    "STS16": ("answer-answer", "headlines", "plagiarism", "postediting", "question-question"),
}
# Files of a class each; the first is the one that SentEval calls positive.
BINARY = {
    "MR": ("MR/rt-polarity.pos", "MR/rt-polarity.neg"),
    "CR": ("CR/custrev.pos", "CR/custrev.neg"),
    "SUBJ": ("SUBJ/subj.objective", "SUBJ/subj.subjective"),
    "MPQA": ("MPQA/mpqa.pos", "MPQA/mpqa.neg"),
}
STS_TASKS = (*STS_SUBSETS, "STSBenchmark", "SICKRelatedness")
TRANSFER_TASKS = (*BINARY, "SST2", "TREC", "MRPC")
TREC_CLASSES = ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")


@dataclass(frozen=True)
class ScoredPairs:
    """Pairs of sentences with what people said of their likeness."""

    first: Sequence[str]
    second: Sequence[str]
    scores: Sequence[float]


@dataclass(frozen=True)
class LabelledTexts:
    """Texts, or pairs of them, with their classes, in SentEval's order: by length in words, then by class.

    The order matters where folds are drawn.
    """

    texts: Sequence[str]
    labels: Sequence[int]
    second: Sequence[str] | None = None


def read_sts_task(folder: str | Path, name: str, split: str = "test") -> dict[str, ScoredPairs]:
    """The subsets of an STS task, by name.

    Args:
        folder: `data/downstream` of SentEval.
        name: one of `STS_TASKS`.
        split: `train`, `dev` or `test` of STSBenchmark and SICKRelatedness; the others are tests.

    Raises:
        FileNotFoundError: a file isn't there.
        ValueError: a row with a column too few or a score that is no number, with file and line.
    """
    folder = Path(folder)
    if name in STS_SUBSETS:
        home = folder / "STS" / f"{name}-en-test"
        return {subset: _read_subset(home, subset) for subset in STS_SUBSETS[name]}
    if name == "STSBenchmark":
        file = folder / "STS" / "STSBenchmark" / f"sts-{split}.csv"
        return {name: _scored(file, _rows(file, columns=7), first=5, second=6, score=4)}
    kind = {"train": "train", "dev": "trial", "test": "test_annotated"}[split]
    file = folder / "SICK" / f"SICK_{kind}.txt"
    return {name: _scored(file, list(_rows(file, columns=4))[1:], first=1, second=2, score=3)}


def read_scored_pairs(file: str | Path) -> ScoredPairs:
    """Pairs from a table without quoting: a sentence, a sentence, a score, or as a header says.

    So are STS2017's cross-lingual sets (`STS.en-de.txt`: no header) and stsb_multi_mt's (`sentence1`, `sentence2`,
    `score`).

    Raises: as `read_sts_task`.
    """
    file = Path(file)
    rows = list(_rows(file, columns=3))
    names = ("sentence1", "sentence2", "score")
    if not set(names) <= set(rows[0][1]):
        return _scored(file, rows, first=0, second=1, score=2)
    first, second, score = map(rows[0][1].index, names)
    return _scored(file, rows[1:], first=first, second=second, score=score)


def read_sts(source: str) -> Dataset:
    """Pairs with gold scores: `sentence1`, `sentence2`, `score`.

    Args:
        source: a TSV with a header, or without one and in this order (as STS 2017's are), or any dataset with these
            columns; or two with a plus between them (`en.tsv+de.tsv`), whose rows translate each other, for pairs of a
            sentence in the one language and a sentence in the other.

    Raises:
        ValueError: two files that don't have the same scores.
    """
    first, plus, second = source.partition("+")
    if not plus or Path(source).exists():
        if Path(source).suffix not in (".tsv", ".txt"):
            return read_dataset(source).cast_column("score", Value("float64"))
        found = read_scored_pairs(source)
        return Dataset.from_dict({"sentence1": found.first, "sentence2": found.second, "score": found.scores})
    sides = [read_sts(first), read_sts(second)]
    if sides[0]["score"][:] != sides[1]["score"][:]:
        raise ValueError(
            f"Rows of {first} and {second} are to translate each other, but their scores differ ({len(sides[0])} and "
            f"{len(sides[1])} rows)."
        )
    return concatenate_datasets(
        [sides[0].select_columns(["sentence1", "score"]), sides[1].select_columns("sentence2")], axis=1
    )


def read_transfer_task(folder: str | Path, name: str) -> dict[str, LabelledTexts]:
    """The splits of a transfer task: `train` alone, `train` and `test`, or `dev` as well.

    Args:
        folder: `data/downstream` of SentEval.
        name: one of `TRANSFER_TASKS`.

    Raises: as `read_sts_task`.
    """
    folder = Path(folder)
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


def _read_subset(home: Path, subset: str) -> ScoredPairs:
    file, gold = home / f"STS.input.{subset}.txt", home / f"STS.gs.{subset}.txt"
    pairs, scores = list(_rows(file, columns=2)), [line for _, line in _lines(gold)]
    if len(pairs) != len(scores):
        raise ValueError(f"{file} has {len(pairs)} pairs, but {gold} {len(scores)} scores.")
    # Pairs without a score were not judged.
    rows = [(number, [*pair, score]) for (number, pair), score in zip(pairs, scores, strict=True) if score.strip()]
    return _scored(gold, rows, first=0, second=1, score=-1)


def _scored(file: Path, rows: Sequence, *, first: int, second: int, score: int) -> ScoredPairs:
    if not rows:
        raise ValueError(f"{file} has no pairs.")
    found = [(_spaced(row[first]), _spaced(row[second]), _number(file, n, row[score], float)) for n, row in rows]
    return ScoredPairs(*map(list, zip(*found, strict=True)))


def _sst(file: Path) -> Iterator[tuple[int, str]]:
    for number, (text, label) in _rows(file, columns=2):
        yield _number(file, number, label, int), text


def _trec(file: Path) -> Iterator[tuple[int, str]]:
    for number, line in _lines(file, "latin-1"):
        label, _, rest = line.partition(":")
        if label not in TREC_CLASSES or " " not in rest:
            raise ValueError(f"{file}, line {number}: expected CLASS:subclass text, but found {line[:60]!r}.")
        yield TREC_CLASSES.index(label), rest.split(" ", 1)[1]


def _mrpc(file: Path) -> Iterator[tuple[int, str, str]]:
    for number, row in list(_rows(file, columns=5))[1:]:
        yield _number(file, number, row[0], int), row[3], row[4]


def _labelled(rows: Iterable[tuple]) -> LabelledTexts:
    """Rows of a label and its texts, in SentEval's order."""
    spaced = [(label, *map(_spaced, texts)) for label, *texts in rows]
    spaced.sort(key=lambda row: (*(len(text.split()) for text in row[1:]), row[0]))
    labels, texts, *second = map(list, zip(*spaced, strict=True))
    return LabelledTexts(texts, labels, *second)


def _lines(file: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Lines with their numbers, from 1."""
    if not file.is_file():
        raise FileNotFoundError(
            f"There is no {file}. Expected is the folder data/downstream of SentEval, as its get_transfer_data.bash "
            "leaves it."
        )
    lines = file.read_text(encoding=encoding).split("\n")
    if not any(lines):
        raise ValueError(f"{file} is empty.")
    yield from enumerate(lines if lines[-1] else lines[:-1], start=1)


def _rows(file: Path, columns: int) -> Iterator[tuple[int, list[str]]]:
    """Rows of a table without quoting, with their numbers."""
    for number, line in _lines(file):
        row = line.rstrip("\r").split("\t")
        if len(row) < columns:
            raise ValueError(f"{file}, line {number}: expected {columns} columns, but found {len(row)}.")
        yield number, row


def _number(file: Path, number: int, text: str, kind: Callable[[str], float]) -> float:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{file}, line {number}: expected a number, but found {text!r}.") from None


def _spaced(text: str) -> str:
    return " ".join(text.split())
