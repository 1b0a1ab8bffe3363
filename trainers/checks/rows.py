"""Checks of the rows of a dataset, the same for training and evaluation."""

from collections.abc import Iterable, Mapping
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from transformers import PreTrainedModel
from transformers.trainer_utils import has_length

from ...collators import DistillationCollator
from ...data import VECTORS, check_vectors
from ...modeling import is_row_wise
from ...modeling.losses import IGNORED_LABEL
from ..objectives import (
    MULTI_LABEL,
    SINGLE_LABEL,
    AttentionObjective,
    LabelObjective,
    RelationObjective,
    TokenContrastObjective,
    VocabularyObjective,
    problem_of,
)
from .names import check_class_names
from .scores import check_groups
from .setup import Setup
from .tokens import check_known, check_sentence_rows, check_tokens, vocabulary_size

_NO_LABEL = f"Where there is no label, write {IGNORED_LABEL}."


def check_rows(setup: Setup, rows: Any, name: str) -> None:
    """Refuse what is no dataset, and rows that would be trained on, or evaluated, with wrong numbers.

    Datasets without `column_names` are not checked here; the collator checks their rows.
    """
    _check_is_dataset(rows, name, tokenised=setup.needed is not None)
    columns = set(getattr(rows, "column_names", None) or ())
    if has_length(rows) and not len(rows):
        raise ValueError(f"The {name} rows: there are none. Pass at least one.")
    try:
        if columns:
            _check_columns(setup, columns)
            _check_labels(setup, rows, columns)
        if setup.needs_vectors:
            _check_vectors(setup, rows, columns)
        _check_alignment(setup, columns)
        check_groups(rows, setup.objectives)
        check_tokens(rows, [("student", setup.student), *(("teacher", each) for each in setup.teacher_models)])
        for role, encoder in setup.encoders:
            check_sentence_rows(encoder, rows, role=role)
    except ValueError as error:
        raise ValueError(f"The {name} rows: {error}") from None
    check_known(rows, setup.student, name)
    if isinstance(rows, datasets.Dataset) and len(rows) == 1 and any(o.compares_rows for o in setup.objectives):
        raise ValueError(f"The {name} rows: there is one, but rows are compared with one another. Pass more rows.")


def _check_is_dataset(rows: Any, name: str, *, tokenised: bool) -> None:
    """Refuse texts, and several datasets in place of one. A collator of the user's own may take rows of any type."""
    first = next(iter(rows), {}) if tokenised and isinstance(rows, list | tuple) else {}
    if isinstance(rows, str | Mapping) or not isinstance(first, Mapping):
        found = type(rows).__name__ + ("" if isinstance(first, Mapping) else f" of {type(first).__name__}")
        raise TypeError(
            f"The {name} rows must be a dataset of tokenised rows (see retort.tokenize), but are of type {found}. Pass "
            "one dataset, or for evaluation a dict of several, such as {'first': rows, 'second': rows}."
        )


def _check_columns(setup: Setup, columns: set[str]) -> None:
    missing = [name for name in setup.needed or () if name not in columns]
    if "input_ids" in columns and "members" in missing:  # a group of one text
        missing.remove("members")
    if setup.needs_vectors and "teacher_input_ids" in missing:
        missing.remove("teacher_input_ids")
    if missing:
        way = {"members": "tokenize_groups", "spans": "tokenize_spans"}.get(missing[0], "retort.tokenize")
        way = "tokenize_groups with teacher_tokenizer=..." if missing[0] == "teacher_input_ids" else way
        raise ValueError(f"they hold {', '.join(sorted(columns))}, but no {', '.join(missing)}. Call {way} first.")

    compares_spans = any(isinstance(o, VocabularyObjective | TokenContrastObjective) for o in setup.objectives)
    if compares_spans and "spans" in columns and "teacher_spans" not in columns:
        raise ValueError(
            "vocabulary_weight and contrast_weight compare tokens of two tokenizers, but the rows hold no "
            "teacher_spans. Pass teacher_tokenizer=... to tokenize_spans()."
        )


def check_their_tokens(columns: Iterable[str], collator: Any, name: str) -> None:
    """Refuse rows with the teacher's own tokens if the trainer's collator doesn't read them.

    Args:
        columns: names of the rows' columns.
        collator: the trainer's collator, if there is a live teacher.
        name: the dataset's name in messages.

    Raises:
        ValueError: the teacher would read the student's tokens.
    """
    if isinstance(collator, DistillationCollator) and collator.teacher is None and "teacher_input_ids" in columns:
        raise ValueError(
            f"The {name} rows hold teacher_input_ids, but the trainer was created without such rows and without the "
            "teacher's tokenizer, so the teacher would read the student's tokens. Pass teacher_processing_class=... to "
            "the trainer, or remove the column."
        )


def _check_vectors(setup: Setup, rows: Any, columns: set[str]) -> None:
    if VECTORS not in columns:
        raise ValueError(
            f"they have no column {VECTORS!r} with the teacher's vectors, which all datasets need if there is no "
            "teacher model. Pass vectors=... to tokenize(), or pass the teacher itself."
        )
    if "members" in columns and "teacher_input_ids" not in (setup.needed or ("teacher_input_ids",)):
        raise ValueError(
            "they are groups of texts, but a row has the teacher's vector of only one text. Use single texts "
            "(DistillTrainer, CKDTrainer) or translations (MCLTrainer) to distil from vectors."
        )
    if isinstance(rows, datasets.Dataset) and (width := check_vectors(rows)) != setup.vectors:
        raise ValueError(f"their vectors have {width} numbers, but those of other datasets have {setup.vectors}.")


def _check_labels(setup: Setup, rows: Any, columns: set[str]) -> None:
    if not any(isinstance(o, LabelObjective) for o in setup.objectives):
        return
    column = next((name for name in ("labels", "label") if name in columns), None)
    if column is None and setup.needed is not None:
        raise ValueError(
            "label_weight is above 0, but there is no 'labels' column. Pass labels=... to tokenize(), or set "
            "label_weight=0."
        )
    if column is not None and isinstance(rows, datasets.Dataset):
        check_labels(rows.select_columns(column).with_format("arrow")[:][column], setup.student)
    # A stream may know its types, too.
    if column is not None and isinstance(features := getattr(rows, "features", None), datasets.Features):
        check_class_names(features.get(column), setup.student)


def _check_alignment(setup: Setup, columns: set[str]) -> None:
    """Refuse to compare different tokens."""
    own_tokens = "teacher_input_ids" in columns
    own_size = vocabulary_size(setup.student)
    sizes = set(map(vocabulary_size, setup.teacher_models)) - {own_size}
    if sizes and setup.same_tokens and not setup.said_so and not own_tokens:
        raise ValueError(
            f"the student's vocabulary has {own_size} entries and the teacher's "
            f"{min(sizes)}, so the same ids may be different tokens. Pass the teacher's tokenizer as "
            "teacher_processing_class=... here. Pass it to tokenize() as teacher_tokenizer=..., too, unless it "
            "tokenises as the student's does."
        )
    if columns and not setup.same_tokens and not own_tokens:
        raise ValueError(
            "student and teacher have different tokenizers, but the rows hold no teacher_input_ids. Pass "
            "teacher_tokenizer=... to tokenize()."
        )
    if not own_tokens:
        return
    for objective in setup.objectives:
        if isinstance(objective, AttentionObjective | RelationObjective):
            raise ValueError(
                f"the objective {objective.name!r} compares every pair of tokens, but student and teacher have "
                "different tokens. Use hidden_weight with align=True in tokenize(), or embedding_weight."
            )
        if not objective.row_wise and objective.teacher_request() and not {"student_positions", "spans"} & columns:
            raise ValueError(
                f"the objective {objective.name!r} compares tokens, but student and teacher have different "
                "tokenizers and the rows are not aligned. Pass align=True to tokenize(), or distil embeddings "
                "(embedding_weight)."
            )


def check_labels(labels: pa.ChunkedArray, student: PreTrainedModel) -> None:
    """Refuse labels whose number, type or range does not fit the student's head."""
    _check_no_label_is_missing(labels)
    name, of_tokens = type(student).__name__, pa.types.is_nested(labels.type)
    if problem_of(student) == MULTI_LABEL or (of_tokens and pa.types.is_floating(labels.type.value_type)):
        _check_label_lists(student, labels)
        return
    if of_tokens == is_row_wise(student):
        raise ValueError(
            f"there is one label for each {'token' if of_tokens else 'row'} (a {labels.type}), but the head of "
            f"{name} learns one for each {'row' if of_tokens else 'token'}."
        )
    if of_tokens:
        labels = pc.list_flatten(labels)
    if pa.types.is_integer(labels.type):
        labels = labels.filter(pc.not_equal(labels, IGNORED_LABEL))
    classes = student.config.num_labels if student.get_output_embeddings() is None else student.config.vocab_size
    if pa.types.is_floating(labels.type) != (classes == 1):
        raise ValueError(
            f"the labels are of type {labels.type}, but the head of {name} has {classes} outputs. A head with one "
            "output (num_labels=1) needs floats; a head with one output per class needs integers."
        )
    if classes > 1 and not (pa.types.is_integer(labels.type) or pa.types.is_boolean(labels.type)):
        found = ", ".join(map(repr, labels.drop_null()[:1].to_pylist())) or "None"
        raise ValueError(
            f"labels must be class ids, 0 to {classes - 1} for this {name}, but there is {found} ({labels.type}). "
            "Replace names by their ids in the student's config.label2id."
        )
    if classes > 1 and (len(labels) == 0 or pc.min(labels).as_py() < 0 or pc.max(labels).as_py() >= classes):
        found = f"{pc.min(labels)} to {pc.max(labels)}" if len(labels) else "none"
        raise ValueError(f"{name} has the classes 0 to {classes - 1}, but the labels are {found}.")


def _check_no_label_is_missing(labels: pa.ChunkedArray) -> None:
    """Refuse None, NaN and infinite labels, alone or in a row's list."""
    rows, values = np.arange(len(labels)), labels
    while True:
        wrong = pc.is_null(values)
        if pa.types.is_floating(values.type):
            wrong = pc.or_(wrong, pc.invert(pc.is_finite(values).fill_null(True)))
        if pc.any(wrong).as_py():
            at = pc.index(wrong, True).as_py()
            # A regression would learn -100 as a number.
            way_out = "Leave the row out." if values is labels and pa.types.is_floating(values.type) else _NO_LABEL
            raise ValueError(f"row {rows[at]} has a label that is {values[at].as_py()}. {way_out}")
        if not pa.types.is_nested(values.type):
            return
        rows, values = rows[pc.list_parent_indices(values).to_numpy()], pc.list_flatten(values)


def _check_label_lists(student: PreTrainedModel, labels: pa.ChunkedArray) -> None:
    """Refuse labels that are not a list of one float per output, and heads that don't learn such labels."""
    name, problem, outputs = type(student).__name__, problem_of(student), student.config.num_labels
    if not pa.types.is_nested(labels.type) or not pa.types.is_floating(labels.type.value_type):
        raise ValueError(
            f"{name} has problem_type={problem!r}, which needs a list of {outputs} floats for each row, with 1.0 for "
            f"each class of the row, such as [1.0, 0.0, 1.0]; but the labels are of type {labels.type}."
        )
    if not is_row_wise(student) or problem == SINGLE_LABEL:
        raise ValueError(
            f"The labels are lists of floats, but the head of {name} learns one class. For rows with any number of "
            "classes, load a sequence classifier with problem_type='multi_label_classification'."
        )
    sizes = pc.unique(pc.list_value_length(labels)).to_pylist()
    if sizes != [outputs]:
        raise ValueError(f"{name} has {outputs} outputs, but the lists of labels hold {sizes} floats.")
    values = pc.list_flatten(labels)
    missing = values.to_numpy().reshape(-1, outputs) == IGNORED_LABEL
    if problem != MULTI_LABEL and missing.all(1).any():
        raise ValueError(
            f"Some lists of labels hold only {IGNORED_LABEL}, which means that there is no label. Scale the labels."
        )
    if problem == MULTI_LABEL and (missing.any(1) & ~missing.all(1)).any():
        raise ValueError(
            f"Some lists of labels hold {IGNORED_LABEL} (no label) for some classes only. A row needs a label for each "
            f"of the {outputs} classes, or {IGNORED_LABEL} for all of them."
        )
    values = values.filter(pc.not_equal(values, IGNORED_LABEL))
    if problem == MULTI_LABEL and not (len(values) and pc.min(values).as_py() >= 0 and pc.max(values).as_py() <= 1):
        found = f"{pc.min(values)} to {pc.max(values)}" if len(values) else "none"
        raise ValueError(f"Labels of problem_type={problem!r} must be from 0 to 1, but these are {found}.")
