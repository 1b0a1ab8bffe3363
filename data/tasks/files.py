"""Files of labelled rows, and of text without labels, in the formats that tasks are published in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..readers import conll_rows, convert, format_of, labelled_rows, named_errors, read_dataset
from .datasets import dataset_part, dataset_texts, joined_words
from .part import Form, Part, Source, tag_columns

# One word and its tag per line; without labels, `.txt` holds one text per line.
CONLL = (".conll", ".bio", ".iob2", ".txt")

TABLES = (".tsv", ".jsonl", ".parquet")

FORMATS = (*TABLES, *CONLL)


def read_part(source: Source, form: Form) -> Part:
    """Read labelled rows.

    Raises:
        ValueError: rows that are not of that form, with file and line; a format or columns that don't fit.
    """
    data = source.data
    if isinstance(data, Dataset):
        return dataset_part(source, data, form, has_lines=False)
    ending = format_of(data)
    if ending in (".jsonl", ".parquet"):
        return dataset_part(source, read_dataset(data), form, has_lines=ending == ".jsonl")
    formats = FORMATS if form.is_tagging else TABLES
    if ending not in formats:
        raise ValueError(f"{source.name}: labelled rows for {form.kind} are read from files of {', '.join(formats)}.")
    with named_errors(data):
        if form.is_tagging:
            return Part(source, convert(data, tagged_rows))
        return Part(source, convert(data, classified_rows, pairs=form.pairs))


def read_unlabelled(source: Source, form: Form) -> Dataset:
    """Read texts: columns `text` and, for pairs, `text_pair`. Labels and what else there is are left aside.

    Raises:
        ValueError: rows without these columns, with file and line; a format that has none.
    """
    data = source.data
    if isinstance(data, Dataset):
        return dataset_texts(source.name, data, form)
    ending = format_of(data)
    if ending == ".tsv":
        columns = ["text", "text_pair"] if form.pairs else ["text"]
        with named_errors(data):
            return convert(data, labelled_rows, columns=columns, more=True).select_columns(columns)
    if ending == ".txt" and form.pairs:
        raise ValueError(
            f"{source.name}: a .txt file holds one text per line, expected pairs. Write them into a .tsv file, with a "
            "tab between the texts."
        )
    if ending in CONLL and ending != ".txt":
        return joined_words(read_part(source, Form("tagging", pairs=False)).rows)
    return dataset_texts(source.name, read_dataset(data), form)


def tagged_rows(file: Path) -> Iterator[dict[str, Any]]:
    """Sentences of a TSV file (words, a tab, tags; both with single spaces) or of a CoNLL file."""
    rows = _tagged_table_rows(file) if format_of(file) == ".tsv" else conll_rows(file)
    for row in rows:
        yield row | tag_columns(row["words"], row["labels"], f"{file}:{row['line']}")


def classified_rows(file: Path, pairs: bool) -> Iterator[dict[str, Any]]:
    """Rows of a TSV file: one or two texts, and a label."""
    hint = "" if pairs else " Pairs of texts take pairs=True."
    for row in labelled_rows(file, [*Form("classification", pairs).texts, "label"], hint=hint):
        label = row.pop("label").strip()
        if not label:
            raise ValueError(f"{file}:{row['line']}: expected a label behind the last tab, but there is none.")
        yield row | {"labels": label, "language": ""}


def _tagged_table_rows(file: Path) -> Iterator[dict[str, Any]]:
    longest = 0
    for row in labelled_rows(file, ["words", "tags"]):
        words, labels = (row[column].strip(" ").split(" ") for column in ("words", "tags"))
        if "" in words or "" in labels:
            raise ValueError(f"{file}:{row['line']}: expected words and tags with single spaces between them.")
        longest = max(longest, len(words))
        yield {"words": words, "labels": labels, "line": row["line"]}
    if longest == 1:
        raise ValueError(
            f"{file}: expected one sentence per row, but every row has a single word. If the file has one word per "
            f"line, give its name the ending {CONLL[0]}."
        )
