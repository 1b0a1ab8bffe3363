"""Finds and orders the labels of a task, and checks the labels of all rows."""

import logging
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value
from transformers import PreTrainedConfig

from ..fingerprints import fingerprint
from ..readers import text_rows
from . import tags
from .rows import LabelledRows, RowSchema
from .sources import split_off_language

logger = logging.getLogger(__name__)

LABELS_FILE = "labels.tsv"

_INTEGER = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def label_names(
    parts: dict[str, list[LabelledRows]],
    schema: RowSchema,
    labels: str | Path | Sequence[str] | PreTrainedConfig | None,
    folders: list[str | Path],
) -> tuple[str, ...]:
    """The classes of the task, checked against all rows; none for a regression. See `read_task`."""
    config = labels if isinstance(labels, PreTrainedConfig) else None
    if config is not None:
        labels = _classes_of(config)
        if schema.is_tagging and labels:
            tags.check_classes(labels)
    every_part = [part for found in parts.values() for part in found]
    declared = _declared(labels, folders, every_part)
    occurring = set().union(*(part.label_names() for part in parts["train"]))
    place, names = declared or ("The training rows", _in_order(occurring, schema, parts["train"]))
    if schema.is_tagging:
        tags.check_scheme(names, place)
        tags.check_list(names, place)
        tags.check_beginnings(names, place)
    elif names and not declared:
        _check_order(parts["train"], schema)
    if len(names) < 2 and (names or declared):
        raise ValueError(f"{place}: expected at least two labels, but found {_few(names) or 'none'}.")
    for part in every_part:
        _check_labels(part, names, place)
    if config is not None and max(len(names), 1) != config.num_labels:
        raise ValueError(
            f"The model has {config.num_labels} classes without names, but the task has {max(len(names), 1)}: "
            f"{_few(names) or 'a number'}. Take a model that was fine-tuned for these labels."
        )
    return names


def _classes_of(config: PreTrainedConfig) -> tuple[str, ...] | None:
    """The names of a model's classes in the order of their ids; None for default names, and for a regression."""
    names = tuple(config.id2label[index] for index in range(config.num_labels))
    unnamed = tuple(f"LABEL_{index}" for index in range(config.num_labels))
    return None if names == unnamed or len(names) == 1 else names


def number_labels(part: LabelledRows, schema: RowSchema, names: tuple[str, ...]) -> Dataset:
    """Replace label names by their ids, or convert labels to floats if there are no names."""
    value = Value("int32") if names else Value("float64")
    columns = {name: part.rows.features[name] for name in (*schema.texts, "labels", "language")}
    number = {name: index for index, name in enumerate(names)}.__getitem__ if names else float

    def numbered(labels: list[Any]) -> dict[str, list[Any]]:
        return {"labels": [list(map(number, row)) if schema.is_tagging else number(row) for row in labels]}

    return part.rows.with_format(None).map(
        numbered,
        input_columns=["labels"],
        batched=True,
        remove_columns=[name for name in part.rows.column_names if name not in columns],
        features=Features(columns | {"labels": List(value) if schema.is_tagging else value}),
        new_fingerprint=fingerprint(part.rows, "numbered", names),
        desc="Numbering labels",
    )


def _declared(
    labels: str | Path | Sequence[str] | None, folders: list[str | Path], parts: list[LabelledRows]
) -> tuple[str, tuple[str, ...]] | None:
    """The source and the list of declared labels; None if there is no list."""
    if isinstance(labels, str | Path):
        return str(labels), _read_labels(labels)
    if labels is not None:
        if len(set(labels)) < len(labels):
            raise ValueError(f"labels= must list every label once, but got {', '.join(labels)}.")
        return "labels=", tuple(labels)
    files = [Path(split_off_language(folder)[1]).expanduser() / LABELS_FILE for folder in folders]
    lists = [(str(file), _read_labels(file)) for file in files if file.is_file()]
    lists = lists or [(part.source.name, part.declared) for part in parts if part.declared]
    for name, names in lists[1:]:
        if names != lists[0][1]:
            raise ValueError(
                f"{lists[0][0]} and {name} list different labels, or in a different order: {_few(lists[0][1])} and "
                f"{_few(names)}. Pass labels= with one list for all."
            )
    return lists[0] if lists else None


def _read_labels(file: str | Path) -> tuple[str, ...]:
    """Read names of labels, one per line, in the order of their ids."""
    labels: list[str] = []
    for number, row in enumerate(text_rows(Path(file).expanduser()), 1):
        label = row["text"].strip(" ")
        if not label or "\t" in label:
            raise ValueError(f"{file}:{number}: expected one label per line, but this line is {row['text']!r}.")
        if label in labels:
            raise ValueError(
                f"{file}:{number}: the label {label!r} is already in line {labels.index(label) + 1}. List every label "
                "once."
            )
        labels.append(label)
    return tuple(labels)


def _in_order(occurring: set[str], schema: RowSchema, train: list[LabelledRows]) -> tuple[str, ...]:
    if all(_INTEGER.fullmatch(name) for name in occurring):
        return tuple(sorted(occurring, key=lambda name: (int(name), name)))
    if schema.is_tagging:
        return tuple(sorted(occurring, key=lambda name: (name != tags.OUTSIDE, name)))
    words = sorted(name for name in occurring if not _NUMBER.fullmatch(name))
    if not words and all(float(name).is_integer() for name in occurring):
        if len({float(name) for name in occurring}) < len(occurring):
            raise ValueError(
                f"The labels {_few(sorted(occurring))} contain the same number in several forms. Write classes as "
                "0, 1, 2."
            )
        logger.warning("The labels are whole numbers, such as %s: they are read as classes.", min(occurring))
        return tuple(sorted(occurring, key=float))
    if not words:
        logger.warning("The labels are real numbers, such as %s: this is a regression.", min(occurring))
        return ()
    if len(words) < len(occurring):
        part = next(part for part in train if words[0] in part.label_names())
        raise ValueError(
            f"{_place_of(part, words[0])}: some labels are numbers, others are words ({_few(words)}). If all of them "
            f"are classes, list them in {LABELS_FILE} or pass labels=. If this row is a header, pass the names of its "
            "columns as columns=."
        )
    return tuple(words)


def _check_labels(part: LabelledRows, names: tuple[str, ...], place: str) -> None:
    unknown = {name for name in part.label_names() if not (name in names if names else _is_finite(name))}
    if unknown:
        name = min(unknown)
        expected = f"one of {_few(names)} ({place})" if names else "a finite number, as in the training rows"
        raise ValueError(
            f"{_place_of(part, name)}: unknown label {name!r}, expected {expected}. List all labels in {LABELS_FILE} "
            "or pass labels=."
        )


def _is_finite(name: str) -> bool:
    return bool(_NUMBER.fullmatch(name)) and math.isfinite(float(name))


def _check_order(train: list[LabelledRows], schema: RowSchema) -> None:
    """Refuse rows whose texts and labels seem to be swapped: labels are normally fewer and shorter than texts."""
    for part in train:
        texts, labels = (part.rows.with_format(None)[column][:] for column in (schema.texts[0], "labels"))
        longer = sum(len(label.split()) for label in labels) > sum(len(text.split()) for text in texts)
        if longer and len(set(labels)) >= len(set(texts)):
            raise ValueError(
                f"{part.source.place(part.rows[0]['line'])}: the labels, such as {labels[0][:40]!r}, are longer than "
                f"the texts, such as {texts[0][:40]!r}, and at least as many. If the label is the first column, pass "
                f"columns=[1, 0]. If not, list the labels in {LABELS_FILE} or pass labels=."
            )


def _place_of(part: LabelledRows, label: str) -> str:
    """File and line of the first row with a label."""
    rows = part.rows.select_columns(["labels", "line"])
    return next(
        part.source.place(row["line"])
        for row in rows
        if label == row["labels"] or (isinstance(row["labels"], list) and label in row["labels"])
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
