"""A batch, whoever collated it."""

from __future__ import annotations

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
    """Rows as tensors: both models' inputs, and what ties the two. A collator makes it, and nothing is written to it.

    Attributes:
        student: arguments of the student's forward, `[rows, width]` or, packed, `[1, tokens]` with a `Packing` as the
            attention mask.
        layout: where the student's tokens lie.
        teacher, teacher_layout: likewise of the teacher; None where it reads the student's inputs.
        labels: `[rows]`, or `[rows, values]` of lists of floats, or `[rows, width]` with -100 in the padding.
        labelled: the labels that there are, and where they belong.
        alignment: tokens of both models that stand for the same text; None where the models read the same tokens.
        teacher_outputs: cached outputs by name: per row `[rows, dim]`, per token `[tokens, dim]`, attention maps
            `[rows, heads, width, width]`. Empty where nothing is cached.
        order: `[rows]`, the place of each row in the list that the collator was given; None if rows were not sorted.
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
        """How many rows there are."""
        return self.layout.rows

    @property
    def of_teacher(self) -> tuple[ModelInputs, TokenLayout]:
        """What the teacher reads."""
        return (self.student, self.layout) if self.teacher is None else (self.teacher, self.teacher_layout)

    @property
    def given_order(self) -> Tensor | slice:
        """Brings rows back into the order in which the collator was given them: `rows[batch.given_order]`."""
        return slice(None) if self.order is None else self.order.argsort()

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """With all tensors on a device; itself, if they are there."""
        return self if self.layout.lengths.device == torch.device(device) else super().to(device, non_blocking)

    def extended(self, kind: type[Kind], **more: Any) -> Kind:
        """This batch as one of a kind that holds more, which is given, too."""
        return kind(**{each.name: getattr(self, each.name) for each in fields(self)} | more)


def as_batch(inputs: Batch | dict[str, Any]) -> Batch:
    """Bring a stock padded batch (`input_ids`, `attention_mask`, `labels`) into the form of `DistillationCollator`.

    So transformers' own collators (token classification, masked language modelling) work with a `DistillTrainer`. On a
    GPU this waits for the device several times a batch; `DistillationCollator` does not.

    Raises:
        ValueError: no attention mask, without which padding can't be told from tokens.
    """
    if isinstance(inputs, Batch):
        return inputs
    if "attention_mask" not in inputs:
        raise ValueError(
            f"The collator returned {', '.join(inputs)}, but no attention_mask, which tells padding from tokens. Use "
            "retort's DistillationCollator, or one that pads with the tokenizer."
        )
    forwarded = {key: value for key, value in inputs.items() if isinstance(value, Tensor) and key not in _NOT_FORWARDED}
    layout = TokenLayout.from_attention_mask(inputs["attention_mask"])
    labels = inputs.get("labels", inputs.get("label"))
    labelled = None if labels is None else Labelled.of(labels, layout)
    return Batch(student=forwarded, layout=layout, labels=labels, labelled=labelled)


def text_ids(batch: Batch) -> Tensor:
    """An int64 for each row's text, `[rows]`: equal for equal tokens; collisions are possible but rare.

    Computed where the tokens are, so that nothing waits for the device.
    """
    layout = batch.layout
    numbers = mixed(layout.flatten(batch.student["input_ids"]), layout.positions)
    return torch.zeros_like(layout.lengths).index_add(0, layout.row_ids, numbers)


def mixed(first: Tensor, *others: Tensor | int) -> Tensor:
    """An int64 hash of several numbers: one changed bit of any of them flips about half of the result's bits."""
    for other in others:
        times = other * _ODD[1]  # Python's ints don't wrap at 64 bits, as tensors' do
        first = first * _ODD[0] + (times if isinstance(other, Tensor) else (times + 2**63) % 2**64 - 2**63)
        for shift, odd in ((29, _ODD[2]), (32, _ODD[3])):
            first = (first ^ (first >> shift)) * odd
    return first


def fractions(numbers: Tensor) -> Tensor:
    """Hashes as numbers in 0..1, float64, whose significand takes 53 bits of them."""
    return (numbers >> 11 & (1 << 53) - 1).double() / (1 << 53)


# Any large odd numbers would do.
_ODD = (0x1E3779B97F4A7C15, 0x3F58476D1CE4E5B9, 0x14D049BB133111EB, 0x2545F4914F6CDD1D)
