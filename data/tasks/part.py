"""Labelled rows of one source, in one form whatever they were read from: labels still go by their names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.compute as pc
from datasets import Dataset, Features, List, Value

from .tags import split_languages, to_iob2


class Source(NamedTuple):
    """A file or a dataset that holds rows of one split.

    Attributes:
        language: of all its rows, or "".
        name: as it was given, for messages.
        data: the file, or the dataset.
    """

    language: str
    name: str
    data: Path | Dataset


class Form(NamedTuple):
    """What the rows of a task look like: a tag for each of their `words`, or a label for a text or a pair of texts."""

    kind: str
    pairs: bool

    @property
    def is_tagging(self) -> bool:
        return self.kind == "tagging"

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns of text, as rows have them in the end."""
        if self.is_tagging:
            return ("words",)
        return ("text", "text_pair") if self.pairs else ("text",)

    @property
    def features(self) -> Features:
        """The columns as they are read, labels by name."""
        value = List(Value("string")) if self.is_tagging else Value("string")
        counts = ("line", "opened", "iob2_only") if self.is_tagging else ("line",)
        columns = dict.fromkeys((*self.texts, "labels"), value) | {"language": Value("string")}
        return Features(columns | dict.fromkeys(counts, Value("int64")))


@dataclass(frozen=True)
class Part:
    """Labelled rows of one file or dataset.

    Attributes:
        source: where they were read.
        rows: the columns of `Form.features`. `line` is the line that a row begins in, or the number of a dataset's
            row, from 1. `opened` and `iob2_only` are what `to_iob2` counted.
        declared: names of all labels in the order of their ids, if the dataset has them.
        unlabelled: rows without a label, which were left out.
        has_lines: whether the rows were read from lines of a text file.
    """

    source: Source
    rows: Dataset
    declared: tuple[str, ...] | None = None
    unlabelled: int = 0
    has_lines: bool = True

    def place(self, line: int) -> str:
        """How messages name a row."""
        return place_of(self.source.name, line, self.has_lines)

    def label_names(self) -> set[str]:
        """The labels that occur."""
        column = self.rows.data.column("labels")
        one_per_row = isinstance(self.rows.features["labels"], Value)
        return set(pc.unique(column if one_per_row else pc.list_flatten(column)).to_pylist())

    def sum_of(self, column: str) -> int:
        """Sum of a column of counts."""
        return pc.sum(self.rows.data.column(column)).as_py() or 0


def place_of(name: str, line: int, has_lines: bool) -> str:
    """How messages name a row."""
    return f"{name}:{line}" if has_lines else f"{name}, row {line} (from 1)"


def tag_columns(words: list[str], labels: list[str], place: str) -> dict[str, Any]:
    """The columns of `Form.features` that the tags of one sentence make, given as they were read."""
    if len(words) != len(labels) or not words:
        raise ValueError(f"{place}: {len(words)} words, but {len(labels)} tags, expected one tag for each word.")
    languages, labels = split_languages(labels)
    if len(languages) > 1:
        raise ValueError(f"{place}: tags of several languages in one sentence: {', '.join(sorted(languages))}.")
    labels, opened, iob2_only = to_iob2(labels)
    return {"labels": labels, "language": "".join(languages), "opened": opened, "iob2_only": iob2_only}
