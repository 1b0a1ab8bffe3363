"""Reads files and datasets as labelled rows with label names, or as texts without labels."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, Features, LargeList, List, Value

from ..fingerprints import fingerprint
from ..readers import (
    LABELS,
    PAIRS,
    TABLES,
    TAGS,
    TEXTS,
    WORDS,
    conll_rows,
    convert,
    find_columns,
    find_layout,
    format_of,
    read_dataset,
    renamed_texts,
    role_rows,
)
from .sources import CONLL, FORMATS, ROWS, Source
from .tags import are_spans, check_scheme, in_iob2, split_languages, to_iob2

logger = logging.getLogger(__name__)

Columns = Sequence[str] | Sequence[int]

_STRINGS = (Value("string"), Value("large_string"))
_LISTS = (List, LargeList)


class RowSchema(NamedTuple):
    """The columns of a task's rows: `words` with a tag for each of them, or a text or a pair of texts with a label."""

    kind: str
    pairs: bool

    @property
    def is_tagging(self) -> bool:
        return self.kind == "tagging"

    @property
    def texts(self) -> tuple[str, ...]:
        """Names of the text columns."""
        if self.is_tagging:
            return ("words",)
        return ("text", "text_pair") if self.pairs else ("text",)

    @property
    def features(self) -> Features:
        """The columns of rows before labels are numbered."""
        value = List(Value("string")) if self.is_tagging else Value("string")
        columns = dict.fromkeys((*self.texts, "labels"), value)
        return Features(columns | {"language": Value("string"), "line": Value("int64")})

    @property
    def text_choices(self) -> tuple[tuple[str, ...], ...]:
        """Possible names of the text columns in files and datasets."""
        if self.is_tagging:
            return WORDS
        return PAIRS if self.pairs else TEXTS

    @property
    def label_choices(self) -> tuple[tuple[str, ...], ...]:
        """Possible names of the label column in files and datasets."""
        return TAGS if self.is_tagging else LABELS


@dataclass(frozen=True)
class LabelledRows:
    """The labelled rows of one source.

    Attributes:
        source: the source of the rows.
        rows: rows with the columns `RowSchema.features`. `line` is the line number of a row's start, or the row's
            number in JSON or a dataset, from 1.
        declared: names of all labels in the order of their ids, if the dataset has them.
    """

    source: Source
    rows: Dataset
    declared: tuple[str, ...] | None = None

    def label_names(self) -> set[str]:
        """The labels that occur."""
        column = self.rows.data.column("labels")
        one_per_row = isinstance(self.rows.features["labels"], Value)
        return set(pc.unique(column if one_per_row else pc.list_flatten(column)).to_pylist())


def read_labelled(source: Source, schema: RowSchema, columns: Columns | None) -> LabelledRows:
    """Read labelled rows. The numbers of rows without a label and of changed tags are logged.

    Raises:
        ValueError: a row doesn't fit the schema (with file and line), or the format or the columns don't.
    """
    ending = format_of(source.data) if isinstance(source.data, Path) else None
    if ending not in (None, *(formats := FORMATS if schema.is_tagging else ROWS)):
        raise ValueError(f"{source.name}: labelled rows for {schema.kind} are read from files of {', '.join(formats)}.")
    if ending in TABLES:
        dataset, names = _read_table(source, schema, columns), (*schema.texts, "labels")
    elif ending in CONLL:
        dataset, names = convert(source.data, conll_rows), ("words", "labels")
    else:
        dataset = source.data if ending is None else read_dataset(source.data)
        names = _labelled_columns(source.name, dataset, schema, columns)
    found = _checked_rows(source, dataset, schema, names)
    if ending in TABLES and schema.is_tagging and pc.max(pc.list_value_length(found.rows.data["words"])).as_py() == 1:
        raise ValueError(
            f"{source.name}: expected one sentence per row, but every row has a single word. If the file has one word "
            f"per line, change its suffix to {CONLL[0]}."
        )
    return _in_iob2(found) if schema.is_tagging and len(found.rows) else found


def read_unlabelled(source: Source, schema: RowSchema, columns: Columns | None) -> Dataset:
    """Read texts: columns `text` and, for pairs, `text_pair`. Labels and other columns are ignored.

    Raises:
        ValueError: a row lacks these columns (with file and line), or the format has no pairs.
    """
    data = source.data
    roles = ["text", "text_pair"] if schema.pairs else ["text"]
    named = None if columns is None else columns[: len(roles)]
    if isinstance(data, Path):
        ending = format_of(data)
        if ending in TABLES:
            choices = (*TEXTS, *WORDS) if schema.is_tagging else schema.text_choices
            layout = find_layout(data, [choices], named)
            return convert(data, role_rows, roles=roles, layout=layout, more=True).select_columns(roles)
        if ending == ".txt" and schema.pairs:
            raise ValueError(
                f"{source.name}: a .txt file holds one text per line, but pairs are expected. Write them to a .tsv "
                "file, with a tab between the texts."
            )
        if ending in CONLL and ending != ".txt":
            return joined_words(convert(data, conll_rows))
        data = read_dataset(data)
    if schema.is_tagging and find_columns(data.column_names, [WORDS]):
        return joined_words(data, *_text_columns(source.name, data, schema, named))
    found = _text_columns(source.name, data, RowSchema("classification", schema.pairs), named)
    return renamed_texts(data, dict(zip(found, roles, strict=True)), source.name)


def joined_words(dataset: Dataset, words: str = "words") -> Dataset:
    """Join a column of words by spaces into a column `text`."""
    return dataset.with_format(None).map(
        lambda sentences: {"text": [" ".join(words) for words in sentences]},
        input_columns=[words],
        batched=True,
        remove_columns=dataset.column_names,
        features=Features({"text": Value("string")}),
        new_fingerprint=fingerprint(dataset, "joined_words", words),
        desc="Joining words",
    )


def _read_table(source: Source, schema: RowSchema, columns: Columns | None) -> Dataset:
    roles = [*schema.texts, "labels"]
    layout = find_layout(source.data, [schema.text_choices, schema.label_choices], columns)
    hint = "" if schema.pairs or schema.is_tagging else " Set pairs to true for pairs of texts."
    rows = convert(source.data, role_rows, roles=roles, layout=layout, hint=hint)
    blank = rows[-1]["line"] - rows[0]["line"] + 1 - len(rows)
    if blank and format_of(source.data) == ".tsv":
        logger.warning("%s: %d blank lines between rows were skipped.", source.name, blank)
    return rows


def _labelled_columns(name: str, dataset: Dataset, schema: RowSchema, columns: Columns | None) -> tuple[str, ...]:
    texts = _text_columns(name, dataset, schema, columns and columns[:-1])
    candidates = schema.label_choices if columns is None else ((columns[-1],),)
    found = find_columns(dataset.column_names, [candidates])
    if found is None:
        expected = " or ".join(candidate for (candidate,) in candidates)
        raise ValueError(f"{name} has no column {expected}, only {_columns_of(dataset)}.")
    feature = dataset.features[found[0]]
    if schema.is_tagging != isinstance(feature, _LISTS):
        expected = "a list of tags" if schema.is_tagging else "one label"
        raise ValueError(f"{name}: expected {expected} in the column {found[0]!r}, but it holds {feature}.")
    return (*texts, *found)


def _checked_rows(source: Source, dataset: Dataset, schema: RowSchema, columns: tuple[str, ...]) -> LabelledRows:
    """Check rows and convert labels to names. Rows without a label (None, or -1 for named classes) are left out."""
    feature = dataset.features[columns[-1]]
    feature = feature.feature if isinstance(feature, _LISTS) else feature
    names = tuple(feature.names) if isinstance(feature, ClassLabel) else None
    is_text = schema.is_tagging and isinstance(dataset.features[columns[0]], Value)
    has_lines = isinstance(source.data, Path) and format_of(source.data) in (*TABLES, *CONLL)

    def name_of(label: Any) -> str | None:
        if label is None or (names and label == -1):
            return None
        # A number without a name is kept, and is reported as an unknown label later.
        return names[label] if names and 0 <= label < len(names) else str(label).strip()

    def read(*values: list) -> dict[str, list]:
        rows = []
        for *found, label, line in zip(*values, strict=True):
            line = line if has_lines else line + 1
            if is_text:
                *found, label = (cell.strip(" ").split(" ") for cell in (*found, label))
                if "" in found[0] or "" in label:
                    raise ValueError(f"{source.place(line)}: expected words and tags with single spaces between them.")
            labels = [name_of(one) for one in (label or [None] if schema.is_tagging else [label])]
            if None in labels:
                continue
            _check_row(found, labels, schema, lambda line=line: source.place(line))
            made = {"labels": labels if schema.is_tagging else labels[0], "language": source.language, "line": line}
            if schema.is_tagging:
                made |= _without_languages(labels, source, line)
            rows.append(dict(zip(schema.texts, found, strict=True)) | made)
        return {column: [row[column] for row in rows] for column in schema.features}

    rows = dataset.with_format(None).map(
        read,
        input_columns=[*columns, *(["line"] if has_lines else [])],
        with_indices=not has_lines,
        batched=True,
        remove_columns=dataset.column_names,
        features=schema.features,
        new_fingerprint=fingerprint(dataset, schema, columns, names, source.language, has_lines),
        desc="Reading labels",
    )
    if unlabelled := len(dataset) - len(rows):
        logger.warning("%s: %d of %d rows have no label and were left out.", source.name, unlabelled, len(dataset))
    return LabelledRows(source, rows, names)


def _check_row(texts: list, labels: list[str], schema: RowSchema, place: Callable[[], str]) -> None:
    if None in texts or (schema.is_tagging and None in texts[0]):
        raise ValueError(f"{place()}: this row has a label but no text.")
    if schema.is_tagging and len(texts[0]) != len(labels):
        raise ValueError(f"{place()}: {len(texts[0])} words, but {len(labels)} tags. Expected one tag for each word.")
    if "" in labels:
        raise ValueError(f"{place()}: expected a label, but there is none.")


def _without_languages(tags: list[str], source: Source, line: int) -> dict[str, Any]:
    languages, tags = split_languages(tags)
    if len(languages) > 1:
        found = ", ".join(sorted(languages))
        raise ValueError(f"{source.place(line)}: tags of several languages in one sentence: {found}.")
    return {"labels": tags, "language": "".join(languages) or source.language}


def _in_iob2(part: LabelledRows) -> LabelledRows:
    """Convert the tags of spans to IOB2. Classes of words are not changed."""
    names = part.label_names()
    check_scheme(names, part.source.name)
    if part.declared and are_spans(part.declared):
        part = replace(part, declared=tuple(dict.fromkeys(map(in_iob2, part.declared))))
    if not are_spans(names):
        return part

    def converted(labels: list[list[str]]) -> dict[str, list]:
        found = [to_iob2(tags) for tags in labels]
        return dict(zip(("labels", "opened", "iob2_only"), map(list, zip(*found, strict=True)), strict=True))

    rows = part.rows.map(
        converted,
        input_columns=["labels"],
        batched=True,
        features=Features(part.rows.features | dict.fromkeys(("opened", "iob2_only"), Value("int64"))),
        new_fingerprint=fingerprint(part.rows, "in IOB2"),
        desc="Reading tags",
    )
    opened, iob2_only = (pc.sum(rows.data.column(column)).as_py() for column in ("opened", "iob2_only"))
    name = part.source.name
    if others := sorted(tag for tag in names if tag[:2] in ("E-", "S-", "L-", "U-", "M-")):
        logger.warning("%s: tags of IOBES or BILOU (%s) are converted to IOB2.", name, ", ".join(others[:4]))
    if opened and not iob2_only:
        logger.warning("%s is in IOB1 and was converted to IOB2: %d tags I- became B-.", name, opened)
    elif opened:
        logger.warning("%s: %d tags I- don't continue a span (not IOB2) and are read as B-.", name, opened)
    return replace(part, rows=rows.remove_columns(["opened", "iob2_only"]))


def _text_columns(name: str, dataset: Dataset, schema: RowSchema, columns: Columns | None) -> tuple[str, ...]:
    if columns is not None:
        if missing := [column for column in columns if column not in dataset.column_names]:
            raise ValueError(f"{name} has no column {missing[0]!r}, only {_columns_of(dataset)}.")
        dataset = dataset.select_columns(list(columns))
    if schema.is_tagging:
        words = find_columns(dataset.column_names, [WORDS]) if columns is None else tuple(columns)
        if words is None or getattr(dataset.features[words[0]], "feature", None) not in _STRINGS:
            raise ValueError(
                f"{name}: expected lists of words in a column {' or '.join(c for (c,) in WORDS)}, but its columns are "
                f"{_columns_of(dataset)}."
            )
        return words
    texts = [column for column, feature in dataset.features.items() if feature in _STRINGS]
    if columns is None and not schema.pairs and (pair := find_columns(texts, [PAIRS])):
        raise ValueError(f"{name} holds pairs of texts ({' and '.join(pair)}). Set pairs to true.")
    found = find_columns(texts, [schema.text_choices if columns is None else (tuple(columns),)])
    if found is None:
        expected = ", ".join(" and ".join(choice) for choice in schema.text_choices)
        raise ValueError(f"{name}: expected columns of text ({expected}), but its columns are {_columns_of(dataset)}.")
    return found


def _columns_of(dataset: Dataset) -> str:
    return ", ".join(f"{name} ({getattr(feature, 'dtype', feature)})" for name, feature in dataset.features.items())
