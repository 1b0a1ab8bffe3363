"""Collates tokenised rows to a batch with the inputs of student and teacher."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data import VECTORS
from ..modeling.encoding import (
    AttentionSettings,
    Packing,
    TokenAlignment,
    TokenLayout,
    most_positions,
    position_offset,
    require_padding,
)
from ..modeling.losses import IGNORED_LABEL
from .batch import Batch, ModelInputs
from .labelled import Labelled
from .padding import Row, without_padding

logger = logging.getLogger(__name__)

# On a GPU, the width of padded batches is a multiple of this, since cuDNN makes a new attention plan for each shape.
_WIDTH_MULTIPLE = 32

_TEACHER = "teacher_"
_TEACHER_TOKENS = ("teacher_input_ids", "teacher_token_type_ids", "teacher_positions", "teacher_spans")


@dataclass(frozen=True)
class InputFormat:
    """Format of the inputs of one model.

    Attributes:
        pad_token_id: id of the padding token.
        packed: whether inputs are packed, `[1, tokens]` without padding, or padded, `[rows, width]`.
        position_offset: the position id of a row's first token (see `modeling.encoding.position_offset`).
        cumulative: whether packed batches contain the rows' cumulative lengths, which `varlen` attention needs.
        width_multiple: the width of padded batches is a multiple of this, so that kernels and their plans are reused.
        widest: maximum width of padded batches, in tokens.
    """

    pad_token_id: int
    packed: bool = False
    position_offset: int = 0
    cumulative: bool = True
    width_multiple: int = 1
    widest: float = math.inf

    @classmethod
    def of(
        cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, packed: bool = False, **settings: Any
    ) -> InputFormat:
        """The format for a model and its tokenizer, with further attributes as `settings`.

        Raises:
            ValueError: there is no tokenizer, or it has no padding token.
        """
        if tokenizer is None:
            raise ValueError("Padding needs a tokenizer. Pass the student's tokenizer as processing_class=...")
        if tokenizer.pad_token_id is None:
            raise ValueError(
                f"{type(tokenizer).__name__} has no padding token, which batches need. Set tokenizer.pad_token to one "
                "of its special tokens."
            )
        return cls(tokenizer.pad_token_id, packed, position_offset(model) if packed else 0, **settings)

    def width(self, lengths: np.ndarray) -> int:
        """Width of a padded batch with rows of `lengths` tokens."""
        longest = int(lengths.max())
        return max(longest, int(min(longest + -longest % self.width_multiple, self.widest)))


@dataclass(frozen=True)
class DistillationCollator:
    """Collates rows from `tokenize` to a `Batch`.

    If one of the models reads packed rows, all rows of the batch are sorted by their number of tokens (shortest first,
    stable), so that attention can be computed for runs of equal length. `Batch.order` is the order.

    Padding of already padded rows is removed by `attention_mask` and `teacher_attention_mask`. A column `label` is read
    as `labels`.

    Args:
        student: format of the student's inputs.
        teacher: format of the teacher's inputs; None if it reads the student's inputs. Without a column
            `teacher_input_ids`, its inputs are the student's tokens.

    Returns (when called with a list of rows):
        A `Batch`. Its `alignment` pairs tokens that begin the same word in both models. Its `teacher_outputs` are the
        cached columns, by their names without the prefix `teacher_`.

    Raises:
        ValueError: there are no rows, a row has no tokens, rows have different columns, or a column doesn't fit the
            tokens of its row.
    """

    student: InputFormat
    teacher: InputFormat | None = None

    def __call__(self, rows: Sequence[Row]) -> Batch:
        rows = without_padding([_with_labels(row) for row in rows])
        columns = _common_columns(rows)
        if VECTORS in columns:
            _check_vectors(rows)
        prefix = _TEACHER if "teacher_input_ids" in columns else ""
        lengths, teacher_lengths = _lengths(rows, "input_ids"), _lengths(rows, f"{prefix}input_ids")
        order = None
        if self.student.packed or (self.teacher and self.teacher.packed):
            order = np.argsort(lengths if self.student.packed else teacher_lengths, kind="stable")
            rows, lengths, teacher_lengths = [rows[i] for i in order], lengths[order], teacher_lengths[order]

        student, layout = _inputs(rows, lengths, self.student, prefix="")
        teacher, teacher_layout = _inputs(rows, teacher_lengths, self.teacher, prefix) if self.teacher else (None, None)
        labels = _labels(rows, layout) if "labels" in columns else None
        cached = sorted(name for name in columns if name.startswith(_TEACHER) and name not in _TEACHER_TOKENS)
        return Batch(
            student=student,
            layout=layout,
            teacher=teacher,
            teacher_layout=teacher_layout,
            labels=labels,
            labelled=None if labels is None else Labelled.of(labels, layout),
            alignment=_alignment(rows, lengths, teacher_lengths) if "student_positions" in columns else None,
            teacher_outputs={
                name.removeprefix(_TEACHER): _cached_outputs(rows, name, teacher_lengths) for name in cached
            },
            order=None if order is None else torch.from_numpy(order),
        )


def collator_for(
    student: PreTrainedModel,
    teachers: Sequence[PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    teacher_tokenizer: PreTrainedTokenizerBase | None,
    *,
    attention: AttentionSettings,
) -> DistillationCollator:
    """A collator that makes packed batches if a model's attention supports them, and padded ones otherwise.

    The attention back end of each model and its reason are logged. `teachers` must have the same kind of head.
    `teacher_tokenizer` is None if it is the student's.
    """
    ours = _format_for(student, tokenizer, attention, "student")
    if not teachers:
        return DistillationCollator(ours)
    their_tokenizer = teacher_tokenizer or tokenizer
    found = {_format_for(teacher, their_tokenizer, attention.of_teachers(), "teacher") for teacher in teachers}
    if len(found) > 1:  # position ids of packed rows differ between the teachers; with padding each model makes its own
        found = {_padded_format(teachers, their_tokenizer, attention)}
    theirs = found.pop()
    same = theirs == ours and teacher_tokenizer is None
    return DistillationCollator(ours, None if same else theirs)


def _format_for(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, attention: AttentionSettings, role: str
) -> InputFormat:
    backend = attention.choose(model)
    logger.info("Attention of the %s, %s: %s.", role, type(model).__name__, backend)
    if not backend.is_packed:
        return _padded_format([model], tokenizer, attention)
    return InputFormat.of(model, tokenizer, packed=True, cumulative=backend.name == "varlen")


def _padded_format(
    models: Sequence[PreTrainedModel], tokenizer: PreTrainedTokenizerBase, attention: AttentionSettings
) -> InputFormat:
    settings: dict[str, Any] = {}
    if attention.device.type != "cpu":
        settings = {"width_multiple": _WIDTH_MULTIPLE, "widest": min(map(most_tokens, models))}
    made = InputFormat.of(models[0], tokenizer, **settings)
    for model in models:
        require_padding(model, made.pad_token_id)
    return made


def most_tokens(model: PreTrainedModel) -> float:
    """Maximum number of tokens of a row. RoBERTa-like models never use their first positions; LSTMs have no limit."""
    return most_positions(model.config) - position_offset(model)


def _with_labels(row: Row) -> Row:
    """Rename the column `label` of a row to `labels`, as transformers' collators do."""
    if "label" not in row or "labels" in row:
        return row
    return {("labels" if name == "label" else name): value for name, value in row.items()}


def _common_columns(rows: Sequence[Row]) -> set[str]:
    if not rows:
        raise ValueError("A batch needs at least one row, but the list of rows is empty.")
    columns = set(rows[0])
    for index, row in enumerate(rows):
        if row.keys() != columns:
            raise ValueError(
                f"The rows of a batch must have the same columns, but row 0 has {sorted(columns)} and row {index} has "
                f"{sorted(row)}."
            )
    if "input_ids" not in columns:
        raise ValueError(
            f"The rows have no column input_ids, only {sorted(columns)}. Call retort.tokenize(rows, tokenizer) first."
        )
    return columns


def _lengths(rows: Sequence[Row], column: str) -> np.ndarray:
    lengths = np.fromiter((len(row[column]) for row in rows), dtype=np.int64, count=len(rows))
    if not lengths.all():
        raise ValueError(f"Row {int(lengths.argmin())} of the batch has no tokens ({column} is empty). Leave it out.")
    return lengths


def _inputs(
    rows: Sequence[Row], lengths: np.ndarray, form: InputFormat, prefix: str
) -> tuple[ModelInputs, TokenLayout]:
    """The forward arguments of one model, from the columns with this prefix."""
    layout = TokenLayout.from_lengths(torch.from_numpy(lengths), packed=form.packed, width=form.width(lengths))
    names = [name for name in ("input_ids", "token_type_ids") if f"{prefix}{name}" in rows[0]]
    tokens = {name: _concatenated(rows, f"{prefix}{name}", lengths) for name in names}
    if form.packed:
        inputs = {name: flat[None] for name, flat in tokens.items()}
        inputs["position_ids"] = (layout.positions + form.position_offset)[None]
        inputs["attention_mask"] = Packing.from_layout(layout, cumulative=form.cumulative)
        return inputs, layout
    fill = {"input_ids": form.pad_token_id, "token_type_ids": 0}
    inputs = {name: layout.pad(flat, fill[name]) for name, flat in tokens.items()}
    inputs["attention_mask"] = layout.mask.long()
    return inputs, layout


def _labels(rows: Sequence[Row], layout: TokenLayout) -> Tensor:
    """`[rows]` from numbers (integers -> int64, others -> float32), `[rows, values]` from lists of floats, `[rows,
    width]` from one integer per token."""
    if np.ndim(rows[0]["labels"]) == 0:
        labels = np.asarray([row["labels"] for row in rows])
        return torch.from_numpy(labels.astype(np.int64 if labels.dtype.kind in "iub" else np.float32))
    if np.asarray(rows[0]["labels"]).dtype.kind == "f":
        return torch.from_numpy(np.asarray([row["labels"] for row in rows], dtype=np.float32))
    return layout.pad(_concatenated(rows, "labels", layout.lengths.numpy()), IGNORED_LABEL)


def _concatenated(rows: Sequence[Row], column: str, lengths: np.ndarray) -> Tensor:
    """`[tokens]`, the concatenated integers of a column of all rows."""
    values = [np.asarray(row[column]) for row in rows]
    _check_lengths(column, values, lengths)
    return torch.from_numpy(np.concatenate(values, dtype=np.int64, casting="unsafe"))


def _check_lengths(column: str, values: list[np.ndarray], lengths: np.ndarray) -> None:
    for index, (value, length) in enumerate(zip(values, lengths, strict=True)):
        if len(value) != length:
            raise ValueError(
                f"Row {index} of the batch has {length} tokens, but its {column} holds {len(value)} values. Such a "
                "column must have one value per token; run retort.data.tokenize."
            )


def _alignment(rows: Sequence[Row], lengths: np.ndarray, teacher_lengths: np.ndarray) -> TokenAlignment:
    """The alignment of `student_positions` with `teacher_positions`."""
    ours = [np.asarray(row["student_positions"], dtype=np.int64) for row in rows]
    theirs = [np.asarray(row["teacher_positions"], dtype=np.int64) for row in rows]
    for index, (mine, yours) in enumerate(zip(ours, theirs, strict=True)):
        if len(mine) != len(yours):
            raise ValueError(
                f"Row {index} of the batch aligns {len(mine)} student_positions with {len(yours)} teacher_positions, "
                "but their numbers must be equal."
            )
    return TokenAlignment(
        student=_flat_index("student_positions", ours, lengths),
        teacher=_flat_index("teacher_positions", theirs, teacher_lengths),
    )


def _flat_index(column: str, positions: list[np.ndarray], lengths: np.ndarray) -> Tensor:
    """Convert positions in rows to positions in the concatenation of all rows."""
    counts = [len(row) for row in positions]
    flat, ends = np.concatenate(positions), np.repeat(lengths, counts)
    if ((flat < 0) | (flat >= ends)).any():
        wrong = int(((flat < 0) | (flat >= ends)).argmax())
        raise ValueError(f"{column} names token {flat[wrong]} of a row that has {ends[wrong]} tokens.")
    return torch.from_numpy(flat + np.repeat(lengths.cumsum() - lengths, counts))


def _check_vectors(rows: Sequence[Row]) -> None:
    """Refuse invalid teacher vectors, since those of a stream were not checked before."""
    for index, row in enumerate(rows):
        if len(row[VECTORS]) != len(rows[0][VECTORS]):
            raise ValueError(
                f"Row {index} of the batch holds {len(row[VECTORS])} numbers in {VECTORS}, but row 0 holds "
                f"{len(rows[0][VECTORS])}."
            )
        if not np.isfinite(row[VECTORS]).all():
            raise ValueError(f"Row {index} of the batch holds a vector in {VECTORS} that is not finite. Leave it out.")


def _cached_outputs(rows: Sequence[Row], column: str, lengths: np.ndarray) -> Tensor:
    """Collate one cached output of the teacher, by its number of dimensions.

    Returns:
        `[dim]` -> `[rows, dim]`; `[length, dim]` -> `[tokens, dim]`; `[heads, length, length]` ->
        `[rows, heads, width, width]`, with zeros in the padding. Lists are converted to float32; arrays keep their
        dtype.
    """
    values = [_without_doubles(row[column]) for row in rows]
    if values[0].ndim == 1:
        return torch.from_numpy(np.stack(values))
    if values[0].ndim == 2:
        _check_lengths(column, values, lengths)
        return torch.from_numpy(np.concatenate(values))
    _check_lengths(column, [value[0] for value in values], lengths)
    heads, width = len(values[0]), int(lengths.max())
    maps = np.zeros((len(values), heads, width, width), dtype=values[0].dtype)
    for padded, value in zip(maps, values, strict=True):
        padded[:, : value.shape[1], : value.shape[2]] = value
    return torch.from_numpy(maps)


def _without_doubles(value: Any) -> np.ndarray:
    """An array as it is; lists of Python's numbers as float32, since a cache never holds more."""
    array = np.asarray(value)
    is_list = not isinstance(value, np.ndarray | Tensor)
    return array.astype(np.float32) if is_list and array.dtype == np.float64 else array
