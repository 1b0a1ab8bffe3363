"""Datasets with the usual columns -> labelled rows of one form, or texts."""

from __future__ import annotations

from functools import partial
from typing import Any

from datasets import ClassLabel, Dataset, Features, List, Value

from ..fingerprints import fingerprint
from .part import Form, Part, Source, place_of, tag_columns

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


def dataset_part(source: Source, dataset: Dataset, form: Form, *, has_lines: bool) -> Part:
    """The labelled rows of a dataset. Those without a label (None, or -1 where classes have names) are left out."""
    texts = _words(source.name, dataset) if form.is_tagging else _texts(source.name, dataset, pairs=form.pairs)
    candidates = _TAG_COLUMNS if form.is_tagging else _LABEL_COLUMNS
    label = next((column for column in candidates if column in dataset.column_names), None)
    if label is None:
        raise ValueError(f"{source.name} has no column {' or '.join(candidates)}, only {_columns_of(dataset)}.")
    feature = dataset.features[label]
    if form.is_tagging != isinstance(feature, List):
        expected = "a list of tags" if form.is_tagging else "one label"
        raise ValueError(f"{source.name}: expected {expected} in the column {label!r}, but it holds {feature}.")
    feature = feature.feature if form.is_tagging else feature
    names = tuple(feature.names) if isinstance(feature, ClassLabel) else None
    rows = dataset.with_format(None).map(
        partial(_to_form, form, names, partial(place_of, source.name, has_lines=has_lines)),
        input_columns=[*texts, label],
        with_indices=True,
        batched=True,
        remove_columns=dataset.column_names,
        features=form.features,
        new_fingerprint=fingerprint(dataset, form, texts, label, names, has_lines),
        desc="Reading labels",
    )
    return Part(source, rows, names, len(dataset) - len(rows), has_lines)


def dataset_texts(name: str, dataset: Dataset, form: Form) -> Dataset:
    """The texts of a dataset, in columns `text` and, for pairs, `text_pair`."""
    if form.is_tagging and any(column in dataset.column_names for column in _WORD_COLUMNS):
        (words,) = _words(name, dataset)
        return joined_words(dataset.select_columns(words).rename_columns({words: "words"}))
    found = _texts(name, dataset, pairs=form.pairs)
    columns = ("text", "text_pair") if form.pairs else ("text",)
    dataset = dataset.select_columns(list(found)).rename_columns(dict(zip(found, columns, strict=True)))
    features = Features(dict.fromkeys(columns, Value("string")))
    # A cast copies all rows, also where it changes nothing.
    return dataset if dataset.features == features else dataset.cast(features)


def joined_words(dataset: Dataset) -> Dataset:
    """A column `text` made of the column `words`, with spaces between them."""
    return dataset.with_format(None).map(
        lambda sentences: {"text": [" ".join(words) for words in sentences]},
        input_columns=["words"],
        batched=True,
        remove_columns=dataset.column_names,
        features=Features({"text": Value("string")}),
        new_fingerprint=fingerprint(dataset, "joined_words"),
        desc="Joining words",
    )


def _to_form(form: Form, names: tuple[str, ...] | None, place: partial[str], *columns: list) -> dict[str, list]:
    """The function that `datasets.map` runs: texts, labels and indices of a batch -> the columns of the form."""
    rows = []
    for *texts, label, index in zip(*columns, strict=True):
        labels = [_label_name(one, names) for one in (label or [None] if form.is_tagging else [label])]
        if None in labels:
            continue
        if None in texts:
            raise ValueError(f"{place(index + 1)}: this row has a label, but no text.")
        row = dict(zip(form.texts, texts, strict=True)) | {"line": index + 1}
        if form.is_tagging:
            rows.append(row | tag_columns(texts[0], labels, place(index + 1)))
        else:
            rows.append(row | {"labels": labels[0], "language": ""})
    return {column: [row[column] for row in rows] for column in form.features}


def _label_name(label: Any, names: tuple[str, ...] | None) -> str | None:
    if label is None or (names and label == -1):
        return None
    # A number beyond the names is left as it is, to be found among the unknown labels.
    return names[label] if names and 0 <= label < len(names) else str(label).strip()


def _words(name: str, dataset: Dataset) -> tuple[str, ...]:
    words = next((column for column in _WORD_COLUMNS if column in dataset.column_names), None)
    if words is None or getattr(dataset.features[words], "feature", None) not in _TEXTS:
        raise ValueError(
            f"{name}: expected lists of words in a column {' or '.join(_WORD_COLUMNS)}, but its columns are "
            f"{_columns_of(dataset)}."
        )
    return (words,)


def _texts(name: str, dataset: Dataset, *, pairs: bool) -> tuple[str, ...]:
    columns = {column for column, feature in dataset.features.items() if feature in _TEXTS}
    pair = next((pair for pair in _PAIR_COLUMNS if columns.issuperset(pair)), None)
    if pair and not pairs:
        raise ValueError(f"{name} holds pairs of texts ({' and '.join(pair)}). Pass pairs=True.")
    text = next(((column,) for column in _TEXT_COLUMNS if column in columns), None)
    found = pair if pairs else text
    if found is None:
        expected = ", ".join(" and ".join(pair) for pair in _PAIR_COLUMNS) if pairs else " or ".join(_TEXT_COLUMNS)
        raise ValueError(f"{name}: expected columns of text ({expected}), but its columns are {_columns_of(dataset)}.")
    return found


def _columns_of(dataset: Dataset) -> str:
    return ", ".join(f"{name} ({getattr(feature, 'dtype', feature)})" for name, feature in dataset.features.items())
