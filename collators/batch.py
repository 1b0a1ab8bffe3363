"""Reading a batch, whoever collated it."""

from typing import Any

import torch
from torch import Tensor

from ..modeling.encoding import TokenLayout

Batch = dict[str, Any]

_NOT_FORWARDED = ("labels", "label", "length")


def as_batch(inputs: dict[str, Any]) -> Batch:
    """Bring a stock padded batch (`input_ids`, `attention_mask`, `labels`) into the form of `DistillationCollator`.

    So transformers' own collators (token classification, masked language modelling) work with a `DistillTrainer`.

    Raises:
        ValueError: no attention mask, without which padding can't be told from tokens.
    """
    if "student" in inputs:
        return inputs
    if "attention_mask" not in inputs:
        raise ValueError(
            f"The collator returned {', '.join(inputs)}, but no attention_mask, which tells padding from tokens. Use "
            "retort's DistillationCollator, or one that pads with the tokenizer."
        )
    view = {key: value for key, value in inputs.items() if isinstance(value, Tensor) and key not in _NOT_FORWARDED}
    batch = {"student": view, "layout": TokenLayout.from_attention_mask(inputs["attention_mask"])}
    labels = inputs.get("labels", inputs.get("label"))
    return batch if labels is None else batch | {"labels": labels}


def text_ids(batch: Batch) -> Tensor:
    """A number for each row's text, `[rows]`, int64: equal for equal tokens, and else different but for bad luck.

    Computed where the tokens are, so that nothing waits for the device.
    """
    layout = batch["layout"]
    numbers = mixed(layout.flatten(batch["student"]["input_ids"]), layout.positions)
    return torch.zeros_like(layout.lengths).index_add(0, layout.row_ids, numbers)


def mixed(first: Tensor, *others: Tensor | int) -> Tensor:
    """A hash of several numbers, int64: what differs in a few bits of one of them differs in half of its own."""
    for other in others:
        times = other * _ODD[1]  # a plain number has no 64 bits at whose end to begin anew
        first = first * _ODD[0] + (times if isinstance(other, Tensor) else (times + 2**63) % 2**64 - 2**63)
        for shift, odd in ((29, _ODD[2]), (32, _ODD[3])):
            first = (first ^ (first >> shift)) * odd
    return first


def fractions(numbers: Tensor) -> Tensor:
    """Hashes as numbers in 0..1, float64, whose significand takes 53 bits of them."""
    return (numbers >> 11 & (1 << 53) - 1).double() / (1 << 53)


# Any large odd numbers would do.
_ODD = (0x1E3779B97F4A7C15, 0x3F58476D1CE4E5B9, 0x14D049BB133111EB, 0x2545F4914F6CDD1D)
