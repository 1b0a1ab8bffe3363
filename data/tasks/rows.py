"""Files and datasets -> labelled rows of one schema, labels by name; or texts, where labels don't matter."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, Features, List, Value

from ..fingerprints import fingerprint
from ..readers import conll_rows, convert, format_of, labelled_rows, read_dataset
from .sources import CONLL, FORMATS, TABLES, Source
from .tags import split_languages, to_iob2

logger = logging.getLogger(__name__)

_TEXTS = (Value("string"), Value("large_string"))

_WORD_COLUMNS = ("words", "tokens")
_TAG_COLUMNS = ("tags", "ner_tags", "labels", "label")
_LABEL_COLUMNS = ("label", "labels", "score")
_TEXT_COLUMNS = ("text", "sentence")
_PAIR_COLUMNS = (
    ("text", "text_pair"),
    ("text1", "text2"),
    ("sentence1", "sentence2"),
    ("question", "sentence"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
)


class RowSchema(NamedTuple):
    """The columns of a task's rows: a tag for each of their `words`, or a label for a text or a pair of texts."""

    kind: str
    pairs: bool

    @property
    def is_tagging(self) -> bool:
        return self.kind == "tagging"

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns of text."""
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
class LabelledRows:
    """The labelled rows of one source.

    Attributes:
        source: where they were read.
        rows: the columns of `RowSchema.features`. `line` is the line that a row begins in, or the number of a dataset's
            row, from 1. `opened` and `iob2_only` are what `to_iob2` counted.
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


def read_labelled(source: Source, schema: RowSchema) -> LabelledRows:
    """Read labelled rows. Those that were left out, and tags that were changed, are counted and logged.

    Raises:
        ValueError: rows that are not of that schema, with file and line; a format or columns that don't fit.
    """
    data = source.data
    ending = format_of(data) if isinstance(data, Path) else None
    if ending in (None, ".jsonl", ".parquet"):
        found = _labelled_rows_of_dataset(source, read_dataset(data) if ending else data, schema)
    elif ending not in (formats := FORMATS if schema.is_tagging else TABLES):
        raise ValueError(f"{source.name}: labelled rows for {schema.kind} are read from files of {', '.join(formats)}.")
    elif schema.is_tagging:
        found = LabelledRows(source, convert(data, tagged_rows, language=source.language))
    else:
        texts = list(schema.texts)
        found = LabelledRows(source, convert(data, classified_rows, texts=texts, language=source.language))
    rows = found.rows
    if ending == ".tsv" and (blank := rows[-1]["line"] - rows[0]["line"] + 1 - len(rows)):
        logger.warning("%s: %d blank lines between rows were skipped.", source.name, blank)
    if schema.is_tagging:
        opened, iob2_only = (pc.sum(rows.data.column(column)).as_py() for column in ("opened", "iob2_only"))
        if opened and not iob2_only:
            logger.warning("%s is in IOB1 and was converted to IOB2: %d tags I- became B-.", source.name, opened)
        elif opened:
            logger.warning("%s: %d tags I- continue nothing (not IOB2) and are read as B-.", source.name, opened)
    return found


def read_unlabelled(source: Source, schema: RowSchema) -> Dataset:
    """Read texts: columns `text` and, for pairs, `text_pair`. Labels and what else there is are left aside.

    Raises:
        ValueError: rows without these columns, with file and line; a format that has none.
    """
    data = source.data
    columns = ["text", "text_pair"] if schema.pairs else ["text"]
    if isinstance(data, Path):
        ending = format_of(data)
        if ending == ".tsv":
            return convert(data, labelled_rows, columns=columns, more=True).select_columns(columns)
        if ending == ".txt" and schema.pairs:
            raise ValueError(
                f"{source.name}: a .txt file holds one text per line, expected pairs. Write them into a .tsv file, "
                "with a tab between the texts."
            )
        if ending in CONLL and ending != ".txt":
            return joined_words(convert(data, tagged_rows, language=source.language))
        data = read_dataset(data)
    if schema.is_tagging and _first_of(_WORD_COLUMNS, data):
        return joined_words(data, *_text_columns(source.name, data, schema))
    found = _text_columns(source.name, data, RowSchema("classification", schema.pairs))
    data = data.select_columns(list(found)).rename_columns(dict(zip(found, columns, strict=True)))
    features = Features(dict.fromkeys(columns, Value("string")))
    # A cast copies all rows, also where it changes nothing.
    return data if data.features == features else data.cast(features)


def joined_words(dataset: Dataset, words: str = "words") -> Dataset:
    """A column `text` made of a column of words, with spaces between them."""
    return dataset.with_format(None).map(
        lambda sentences: {"text": [" ".join(words) for words in sentences]},
        input_columns=[words],
        batched=True,
        remove_columns=dataset.column_names,
        features=Features({"text": Value("string")}),
        new_fingerprint=fingerprint(dataset, "joined_words", words),
        desc="Joining words",
    )


def tagged_rows(file: Path, language: str) -> Iterator[dict[str, Any]]:
    """Sentences of a TSV file (words, a tab, tags; both with single spaces) or of a CoNLL file."""
    rows = _tagged_table_rows(file) if format_of(file) == ".tsv" else conll_rows(file)
    for row in rows:
        yield row | _tag_columns(row["words"], row["labels"], language, f"{file}:{row['line']}")


def classified_rows(file: Path, texts: list[str], language: str) -> Iterator[dict[str, Any]]:
    """Rows of a TSV file: one or two texts, and a label."""
    hint = "" if len(texts) > 1 else " Pairs of texts take pairs=True."
    for row in labelled_rows(file, [*texts, "label"], hint=hint):
        label = row.pop("label").strip()
        if not label:
            raise ValueError(f"{file}:{row['line']}: expected a label behind the last tab, but there is none.")
        yield row | {"labels": label, "language": language}


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


def _tag_columns(words: list[str], tags: list[str], language: str, place: str) -> dict[str, Any]:
    """The columns of `RowSchema.features` that the tags of one sentence make, given as they were read."""
    if len(words) != len(tags) or not words:
        raise ValueError(f"{place}: {len(words)} words, but {len(tags)} tags, expected one tag for each word.")
    languages, tags = split_languages(tags)
    if len(languages) > 1:
        raise ValueError(f"{place}: tags of several languages in one sentence: {', '.join(sorted(languages))}.")
    tags, opened, iob2_only = to_iob2(tags)
    return {"labels": tags, "language": "".join(languages) or language, "opened": opened, "iob2_only": iob2_only}


def _labelled_rows_of_dataset(source: Source, dataset: Dataset, schema: RowSchema) -> LabelledRows:
    """The labelled rows of a dataset. Those without a label (None, or -1 where classes have names) are left out."""
    texts = _text_columns(source.name, dataset, schema)
    candidates = _TAG_COLUMNS if schema.is_tagging else _LABEL_COLUMNS
    column = _first_of(candidates, dataset)
    if column is None:
        raise ValueError(f"{source.name} has no column {' or '.join(candidates)}, only {_columns_of(dataset)}.")
    feature = dataset.features[column]
    if schema.is_tagging != isinstance(feature, List):
        expected = "a list of tags" if schema.is_tagging else "one label"
        raise ValueError(f"{source.name}: expected {expected} in the column {column!r}, but it holds {feature}.")
    feature = feature.feature if schema.is_tagging else feature
    names = tuple(feature.names) if isinstance(feature, ClassLabel) else None

    def name_of(label: Any) -> str | None:
        if label is None or (names and label == -1):
            return None
        # A number beyond the names is left as it is, to be found among the unknown labels.
        return names[label] if names and 0 <= label < len(names) else str(label).strip()

    def read(*columns: list) -> dict[str, list]:
        rows = []
        for *found, label, index in zip(*columns, strict=True):
            labels = [name_of(one) for one in (label or [None] if schema.is_tagging else [label])]
            if None in labels:
                continue
            place = source.place(index + 1)
            if None in found:
                raise ValueError(f"{place}: this row has a label, but no text.")
            made = {"labels": labels[0], "language": source.language}
            if schema.is_tagging:
                made = _tag_columns(found[0], labels, source.language, place)
            rows.append(dict(zip(schema.texts, found, strict=True)) | made | {"line": index + 1})
        return {column: [row[column] for row in rows] for column in schema.features}

    rows = dataset.with_format(None).map(
        read,
        input_columns=[*texts, column],
        with_indices=True,
        batched=True,
        remove_columns=dataset.column_names,
        features=schema.features,
        new_fingerprint=fingerprint(dataset, schema, texts, column, names, source.language),
        desc="Reading labels",
    )
    if unlabelled := len(dataset) - len(rows):
        logger.warning("%s: %d of %d rows have no label and were left out.", source.name, unlabelled, len(dataset))
    return LabelledRows(source, rows, names)


def _text_columns(name: str, dataset: Dataset, schema: RowSchema) -> tuple[str, ...]:
    """The columns of a dataset that hold what the schema calls `texts`."""
    if schema.is_tagging:
        words = _first_of(_WORD_COLUMNS, dataset)
        if words is None or getattr(dataset.features[words], "feature", None) not in _TEXTS:
            raise ValueError(
                f"{name}: expected lists of words in a column {' or '.join(_WORD_COLUMNS)}, but its columns are "
                f"{_columns_of(dataset)}."
            )
        return (words,)
    columns = {column for column, feature in dataset.features.items() if feature in _TEXTS}
    pair = next((pair for pair in _PAIR_COLUMNS if columns.issuperset(pair)), None)
    if pair and not schema.pairs:
        raise ValueError(f"{name} holds pairs of texts ({' and '.join(pair)}). Pass pairs=True.")
    found = pair if schema.pairs else next(((column,) for column in _TEXT_COLUMNS if column in columns), None)
    if found is None:
        pairs = ", ".join(" and ".join(pair) for pair in _PAIR_COLUMNS)
        expected = pairs if schema.pairs else " or ".join(_TEXT_COLUMNS)
        raise ValueError(f"{name}: expected columns of text ({expected}), but its columns are {_columns_of(dataset)}.")
    return found


def _first_of(columns: Sequence[str], dataset: Dataset) -> str | None:
    return next((column for column in columns if column in dataset.column_names), None)


def _columns_of(dataset: Dataset) -> str:
    return ", ".join(f"{name} ({getattr(feature, 'dtype', feature)})" for name, feature in dataset.features.items())
