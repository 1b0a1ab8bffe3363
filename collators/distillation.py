"""Tokenised rows -> one batch of tensors: both models' inputs, and what ties the two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..modeling import is_causal, is_row_wise
from ..modeling.encoding import (
    Packing,
    TokenAlignment,
    TokenLayout,
    enable_packing,
    position_offset,
    supports_packing,
)
from ..modeling.losses import IGNORED_LABEL
from .batch import Batch

Row = dict[str, Any]

_TEACHER = "teacher_"
_TEACHER_TOKENS = ("teacher_input_ids", "teacher_token_type_ids", "teacher_positions")


@dataclass(frozen=True)
class InputFormat:
    """How one model wants its tokens.

    Attributes:
        pad_token_id: fills the columns of a padded batch.
        packed: `[1, tokens]` without padding, for models that went through `enable_packing`; else `[rows, width]`.
        position_offset: the position id of a row's first token (see `modeling.packing.position_offset`).
    """

    pad_token_id: int
    packed: bool = False
    position_offset: int = 0

    @classmethod
    def of(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, packed: bool = False) -> InputFormat:
        """That of a model and the tokenizer of its rows.

        Raises:
            ValueError: there is no tokenizer, or it has no padding token.
        """
        if tokenizer is None:
            raise ValueError("Batches are padded as a tokenizer says. Pass the student's as processing_class=...")
        if tokenizer.pad_token_id is None:
            raise ValueError(
                f"{type(tokenizer).__name__} has no padding token, which batches need. Set tokenizer.pad_token to one "
                "of its special tokens."
            )
        return cls(tokenizer.pad_token_id, packed, position_offset(model) if packed else 0)


@dataclass(frozen=True)
class DistillationCollator:
    """Makes a batch of the rows that `tokenize` wrote.

    If one of the models takes packed rows, the rows come out sorted by their number of tokens (shortest first, equal
    ones in the given order): neighbours of equal length are attended to together. Everything in the batch follows that
    order, and `batch["order"]` tells it.

    Args:
        student: how the student wants its tokens.
        teacher: how the teacher wants them; None if it reads the student's inputs. Without a column
            `teacher_input_ids` it is given the student's tokens.

    Returns (when called with a list of rows):
        A dict of

        - `student`, `teacher`: arguments of the models' forward; `layout`, `teacher_layout`: where their tokens lie;
        - `labels`: `[rows]`, or `[rows, width]` with -100 in the padding;
        - `alignment`: a `TokenAlignment` of tokens that begin a word on both sides;
        - `teacher_outputs`: cached columns by name without the prefix: per row `[rows, dim]`, per token
          `[tokens, dim]`, attention maps `[rows, heads, width, width]`;
        - `order`: `[rows]`, the place of each row in the list that was given; only if rows were sorted.

    Raises:
        ValueError: no rows, a row without tokens, rows with different columns, or a column that doesn't fit the
            tokens of its row.
    """

    student: InputFormat
    teacher: InputFormat | None = None

    def __call__(self, rows: Sequence[Row]) -> Batch:
        columns = _common_columns(rows)
        prefix = _TEACHER if "teacher_input_ids" in columns else ""
        lengths, teacher_lengths = _lengths(rows, "input_ids"), _lengths(rows, f"{prefix}input_ids")
        batch: Batch = {}
        if self.student.packed or (self.teacher and self.teacher.packed):
            order = np.argsort(lengths if self.student.packed else teacher_lengths, kind="stable")
            rows, lengths, teacher_lengths = [rows[i] for i in order], lengths[order], teacher_lengths[order]
            batch["order"] = torch.from_numpy(order)

        batch["student"], batch["layout"] = _inputs(rows, lengths, self.student, prefix="")
        if self.teacher:
            batch["teacher"], batch["teacher_layout"] = _inputs(rows, teacher_lengths, self.teacher, prefix)
        if "student_positions" in columns:
            batch["alignment"] = _alignment(rows, lengths, teacher_lengths)
        if "labels" in columns:
            batch["labels"] = _labels(rows, batch["layout"])
        cached = sorted(name for name in columns if name.startswith(_TEACHER) and name not in _TEACHER_TOKENS)
        if cached:
            batch["teacher_outputs"] = {
                name.removeprefix(_TEACHER): _cached_outputs(rows, name, teacher_lengths) for name in cached
            }
        return batch


def collator_for(
    student: PreTrainedModel,
    teachers: Sequence[PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    teacher_tokenizer: PreTrainedTokenizerBase | None,
    *,
    packing: bool,
) -> DistillationCollator:
    """A collator of packed batches where an architecture allows, which is made ready for them; else of padded ones.

    The teachers are of one kind, if there are any; `teacher_tokenizer` is None where it is the student's.
    """
    ours = InputFormat.of(student, tokenizer, packed=packing and packs(student))
    if ours.packed:
        enable_packing(student)
    if not teachers:
        return DistillationCollator(ours)
    their_tokenizer = teacher_tokenizer or tokenizer
    found = {InputFormat.of(t, their_tokenizer, packed=packing and all(map(packs, teachers))) for t in teachers}
    if len(found) > 1:  # positions are counted differently; padded rows leave that to each model
        found = {InputFormat.of(teachers[0], their_tokenizer, packed=False)}
    theirs = found.pop()
    if theirs.packed:
        for model in teachers:
            enable_packing(model)
    same = theirs == ours and teacher_tokenizer is None
    return DistillationCollator(ours, None if same else theirs)


def packs(model: PreTrainedModel) -> bool:
    """Whether a model is fed packed batches: its architecture takes them, and its head does not read whole rows.

    In packed batches tokens attend to all of their row, which a causal model's do not.
    """
    return supports_packing(model) and not is_row_wise(model) and not is_causal(model)


def most_tokens(model: PreTrainedModel) -> float:
    """How many tokens a row may have; RoBERTa-likes have positions that no token ever takes, LSTMs have none."""
    positions = getattr(model.config, "max_position_embeddings", None)
    return math.inf if positions is None else positions - position_offset(model)


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
        raise ValueError(f"The rows have no column input_ids, only {sorted(columns)}. Run retort.data.tokenize.")
    return columns


def _lengths(rows: Sequence[Row], column: str) -> np.ndarray:
    lengths = np.fromiter((len(row[column]) for row in rows), dtype=np.int64, count=len(rows))
    if not lengths.all():
        raise ValueError(f"Row {int(lengths.argmin())} of the batch has no tokens ({column} is empty). Leave it out.")
    return lengths


def _inputs(rows: Sequence[Row], lengths: np.ndarray, form: InputFormat, prefix: str) -> tuple[Batch, TokenLayout]:
    """One model's forward arguments, from the columns whose names begin with `prefix`."""
    layout = TokenLayout.from_lengths(torch.from_numpy(lengths), packed=form.packed)
    names = [name for name in ("input_ids", "token_type_ids") if f"{prefix}{name}" in rows[0]]
    tokens = {name: _concatenated(rows, f"{prefix}{name}", lengths) for name in names}
    if form.packed:
        inputs = {name: flat[None] for name, flat in tokens.items()}
        inputs["position_ids"] = (layout.positions + form.position_offset)[None]
        inputs["packing"] = Packing.from_layout(layout)
        return inputs, layout
    fill = {"input_ids": form.pad_token_id, "token_type_ids": 0}
    inputs = {name: layout.pad(flat, fill[name]) for name, flat in tokens.items()}
    inputs["attention_mask"] = layout.mask.long()
    return inputs, layout


def _labels(rows: Sequence[Row], layout: TokenLayout) -> Tensor:
    """`[rows]` from numbers (integers -> int64, others -> float32), `[rows, width]` from one integer per token."""
    if np.ndim(rows[0]["labels"]) == 0:
        labels = np.asarray([row["labels"] for row in rows])
        return torch.from_numpy(labels.astype(np.int64 if labels.dtype.kind in "iub" else np.float32))
    return layout.pad(_concatenated(rows, "labels", layout.lengths.numpy()), IGNORED_LABEL)


def _concatenated(rows: Sequence[Row], column: str, lengths: np.ndarray) -> Tensor:
    """`[tokens]`, a column of integers of all rows, one after another."""
    values = [np.asarray(row[column], dtype=np.int64) for row in rows]
    _check_lengths(column, values, lengths)
    return torch.from_numpy(np.concatenate(values))


def _check_lengths(column: str, values: list[np.ndarray], lengths: np.ndarray) -> None:
    for index, (value, length) in enumerate(zip(values, lengths, strict=True)):
        if len(value) != length:
            raise ValueError(
                f"Row {index} of the batch has {length} tokens, but its {column} holds {len(value)} values. A column "
                "of one value per token must be as long as the row; run retort.data.tokenize."
            )


def _alignment(rows: Sequence[Row], lengths: np.ndarray, teacher_lengths: np.ndarray) -> TokenAlignment:
    """The tokens that `student_positions` and `teacher_positions` name."""
    ours = [np.asarray(row["student_positions"], dtype=np.int64) for row in rows]
    theirs = [np.asarray(row["teacher_positions"], dtype=np.int64) for row in rows]
    for index, (mine, yours) in enumerate(zip(ours, theirs, strict=True)):
        if len(mine) != len(yours):
            raise ValueError(
                f"Row {index} of the batch aligns {len(mine)} student_positions with {len(yours)} teacher_positions; "
                "there must be as many, one pair for each word."
            )
    return TokenAlignment(
        student=_flat_index("student_positions", ours, lengths),
        teacher=_flat_index("teacher_positions", theirs, teacher_lengths),
    )


def _flat_index(column: str, positions: list[np.ndarray], lengths: np.ndarray) -> Tensor:
    """Places in rows -> places in the rows' concatenation."""
    counts = [len(row) for row in positions]
    flat, ends = np.concatenate(positions), np.repeat(lengths, counts)
    if ((flat < 0) | (flat >= ends)).any():
        wrong = int(((flat < 0) | (flat >= ends)).argmax())
        raise ValueError(f"{column} names token {flat[wrong]} of a row that has {ends[wrong]} tokens.")
    return torch.from_numpy(flat + np.repeat(lengths.cumsum() - lengths, counts))


def _cached_outputs(rows: Sequence[Row], column: str, lengths: np.ndarray) -> Tensor:
    """One cached output of the teacher; its number of dimensions in a row says what it is.

    Returns:
        `[dim]` -> `[rows, dim]`; `[length, dim]` -> `[tokens, dim]`; `[heads, length, length]` ->
        `[rows, heads, width, width]`, zeros in the padding. Lists come out as float32, arrays as they are.
    """
    values = [row[column] for row in rows]
    values = [np.asarray(v, dtype=None if isinstance(v, np.ndarray | Tensor) else np.float32) for v in values]
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
