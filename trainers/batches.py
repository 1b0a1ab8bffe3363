"""Reading a batch, whoever collated it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..modeling.layout import TokenLayout

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
