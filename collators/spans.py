"""Collates rows from `tokenize_spans`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ..data.tokenization import NONE
from ..modeling.encoding import TensorGroup, TokenAlignment
from .batch import Batch
from .distillation import DistillationCollator
from .padding import Row, without_padding

SPAN_COLUMNS = ("spans", "teacher_spans", "span_words", "span_characters", "text_id")


@dataclass(frozen=True)
class BatchSpans(TensorGroup):
    """The spans of a batch, row by row.

    Attributes:
        student: `[student's tokens]`, index of each token's span in the batch; -1 for none.
        teacher: `[teacher's tokens]`, the same for the teacher; None if it reads the student's tokens or there is none.
        texts: `[spans]`, id of each span's text.
        places: `[spans]`, index of each span in its text.
        words: `[spans]`, index of the word in which each span begins; -1 for special tokens.
        characters: `[spans]`, number of characters of each span.
    """

    student: Tensor
    teacher: Tensor | None
    texts: Tensor
    places: Tensor
    words: Tensor
    characters: Tensor

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class OnHost:
    """A collated batch that stays on the host when the outer batch is moved, since this class is no `TensorGroup`."""

    batch: SpanBatch


@dataclass(frozen=True, eq=False, kw_only=True)
class SpanBatch(Batch):
    """Rows whose tokens belong to spans of text. With a teacher, `alignment` pairs tokens of the same spans.

    Attributes:
        spans: the spans of all rows.
        row_texts: `[rows]`, id of each row's text.
        unaligned: `"student"` and `"teacher"` -> flat indices of the tokens without a pair; empty without a teacher.
        on_host: this batch as collated, for `Masking`.
    """

    spans: BatchSpans
    row_texts: Tensor
    unaligned: Mapping[str, Tensor] = field(default_factory=dict)
    on_host: OnHost | None = None


@dataclass(frozen=True)
class SpanCollator:
    """Collates rows from `tokenize_spans` to a `SpanBatch`.

    Args:
        collator: collator of both models' tokens.
        one_to_one: only pair tokens that are a whole span in both models. Otherwise a teacher token may also be paired
            with several student tokens.

    Returns (when called with a list of rows):
        A `SpanBatch`.

    Raises:
        ValueError: the rows are not from `tokenize_spans`.
    """

    collator: DistillationCollator
    one_to_one: bool = False

    def __call__(self, rows: Sequence[Row]) -> SpanBatch:
        if missing := [name for name in SPAN_COLUMNS if name != "teacher_spans" and rows and name not in rows[0]]:
            raise ValueError(
                f"The rows have no column {missing[0]}, only {', '.join(sorted(rows[0]))}. Run "
                "retort.data.tokenize_spans."
            )
        rows = without_padding(rows)
        tokens = [{name: value for name, value in row.items() if name not in SPAN_COLUMNS} for row in rows]
        batch = self.collator(tokens)
        if batch.order is not None:
            rows = [rows[i] for i in batch.order.tolist()]
        spans = _joined(rows)
        made = batch.extended(SpanBatch, spans=spans, row_texts=torch.tensor([row["text_id"] for row in rows]))
        if spans.teacher is not None:
            alignment = _alignment(spans, self.one_to_one)
            sides = {"student": (spans.student, alignment.student), "teacher": (spans.teacher, alignment.teacher)}
            unaligned = {
                name: torch.ones(len(side)).index_fill(0, aligned, 0).nonzero().flatten()
                for name, (side, aligned) in sides.items()
            }
            made = replace(made, alignment=alignment, unaligned=unaligned)
        return replace(made, on_host=OnHost(made))


def _joined(rows: Sequence[Row]) -> BatchSpans:
    """The spans of all rows, with indices in the batch."""
    counts = np.array([len(row["span_words"]) for row in rows])
    starts = counts.cumsum() - counts

    def numbered(column: str) -> Tensor:
        parts = [np.asarray(row[column], dtype=np.int64) for row in rows]
        return _tensor(np.where(part == NONE, NONE, part + start) for part, start in zip(parts, starts, strict=True))

    def of_spans(column: str) -> Tensor:
        return _tensor(np.asarray(row[column], dtype=np.int64) for row in rows)

    return BatchSpans(
        student=numbered("spans"),
        teacher=numbered("teacher_spans") if "teacher_spans" in rows[0] else None,
        texts=torch.from_numpy(np.repeat([row["text_id"] for row in rows], counts)),
        places=_tensor(map(np.arange, counts)),
        words=of_spans("span_words"),
        characters=of_spans("span_characters"),
    )


def _tensor(parts) -> Tensor:
    return torch.from_numpy(np.concatenate(list(parts)))


def _alignment(spans: BatchSpans, one_to_one: bool) -> TokenAlignment:
    """Alignment by the spans that consist of one teacher token and of whole student tokens."""
    ours, theirs = (torch.bincount(side[side >= 0], minlength=len(spans)) for side in (spans.student, spans.teacher))
    paired = (theirs == 1) & ((ours == 1) if one_to_one else (ours >= 1))
    student, teacher = (_in_pairs(side, paired) for side in (spans.student, spans.teacher))
    return TokenAlignment(student, teacher, None if one_to_one else ours[paired])


def _in_pairs(side: Tensor, paired: Tensor) -> Tensor:
    """The tokens of one model in paired spans, sorted by span."""
    tokens = (side >= 0).nonzero().flatten()
    tokens = tokens[paired[side[tokens]]]
    return tokens[torch.argsort(side[tokens], stable=True)]
