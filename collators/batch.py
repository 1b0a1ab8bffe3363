"""The batch that all collators return."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from ..modeling.encoding import Packing, TensorGroup, TokenAlignment, TokenLayout
from .labelled import Labelled

_NOT_FORWARDED = ("labels", "label", "length")

ModelInputs = dict[str, Tensor | Packing]
Kind = TypeVar("Kind", bound="Batch")


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch(TensorGroup):
    """Inputs of student and teacher, labels, and the alignment of tokens. A batch is not changed after collation.

    Attributes:
        student: arguments of the student's forward, `[rows, width]` or, packed, `[1, tokens]` with a `Packing` as the
            attention mask.
        layout: positions of the student's tokens in rows.
        teacher, teacher_layout: inputs and layout of the teacher; None if it reads the student's inputs.
        labels: `[rows]`, `[rows, values]` for lists of floats, or `[rows, width]` with -100 in the padding.
        labelled: the labels without -100, and the indices of their rows or tokens.
        alignment: pairs of tokens of both models for the same text; None if the models read the same tokens.
        teacher_outputs: cached outputs by name: per row `[rows, dim]`, per token `[tokens, dim]`, attention maps
            `[rows, heads, width, width]`. Empty if nothing is cached.
        order: `[rows]`, the index of each row in the collator's input; None if rows were not sorted.
    """

    student: ModelInputs
    layout: TokenLayout
    teacher: ModelInputs | None = None
    teacher_layout: TokenLayout | None = None
    labels: Tensor | None = None
    labelled: Labelled | None = None
    alignment: TokenAlignment | None = None
    teacher_outputs: Mapping[str, Tensor] = field(default_factory=dict)
    order: Tensor | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return self.layout.rows

    @property
    def of_teacher(self) -> tuple[ModelInputs, TokenLayout]:
        """The teacher's inputs and layout."""
        return (self.student, self.layout) if self.teacher is None else (self.teacher, self.teacher_layout)

    @property
    def given_order(self) -> Tensor | slice:
        """Index that restores the order of the collator's input: `rows[batch.given_order]`."""
        return slice(None) if self.order is None else self.order.argsort()

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The batch with all tensors on a device, or itself if they are there."""
        return self if self.layout.lengths.device == torch.device(device) else super().to(device, non_blocking)

    def extended(self, kind: type[Kind], **more: Any) -> Kind:
        """This batch as an instance of a subclass, with the additional fields."""
        return kind(**{each.name: getattr(self, each.name) for each in fields(self)} | more)


def as_batch(inputs: Batch | dict[str, Any]) -> Batch:
    """Convert a stock padded batch (`input_ids`, `attention_mask`, `labels`) to a `Batch`.

    This makes transformers' own collators (token classification, masked language modelling) work with a
    `DistillTrainer`. On a GPU it synchronises with the device several times a batch; `DistillationCollator` does not.

    Raises:
        ValueError: there is no attention mask.
    """
    if isinstance(inputs, Batch):
        return inputs
    if "attention_mask" not in inputs:
        raise ValueError(
            f"The collator returned {', '.join(inputs)}, but no attention_mask, which is needed to find the padding. "
            "Use retort's DistillationCollator, or one that pads with the tokenizer."
        )
    forwarded = {key: value for key, value in inputs.items() if isinstance(value, Tensor) and key not in _NOT_FORWARDED}
    layout = TokenLayout.from_attention_mask(inputs["attention_mask"])
    labels = inputs.get("labels", inputs.get("label"))
    labelled = None if labels is None else Labelled.of(labels, layout)
    return Batch(student=forwarded, layout=layout, labels=labels, labelled=labelled)


def text_ids(batch: Batch) -> Tensor:
    """An int64 hash of each row's tokens, `[rows]`. Collisions are possible but rare.

    It is computed on the device of the tokens, so that nothing waits for the device.
    """
    layout = batch.layout
    numbers = mixed(layout.flatten(batch.student["input_ids"]), layout.positions)
    return torch.zeros_like(layout.lengths).index_add(0, layout.row_ids, numbers)


def mixed(first: Tensor, *others: Tensor | int) -> Tensor:
    """An int64 hash of several numbers. If one bit of an input changes, about half of the result's bits change."""
    for other in others:
        times = other * _ODD[1]  # Python's ints don't wrap at 64 bits, as tensors' do
        first = first * _ODD[0] + (times if isinstance(other, Tensor) else (times + 2**63) % 2**64 - 2**63)
        for shift, odd in ((29, _ODD[2]), (32, _ODD[3])):
            first = (first ^ (first >> shift)) * odd
    return first


def fractions(numbers: Tensor) -> Tensor:
    """Convert hashes to float64 numbers in 0..1, using 53 bits of each."""
    return (numbers >> 11 & (1 << 53) - 1).double() / (1 << 53)


# Any large odd numbers would do.
_ODD = (0x1E3779B97F4A7C15, 0x3F58476D1CE4E5B9, 0x14D049BB133111EB, 0x2545F4914F6CDD1D)
