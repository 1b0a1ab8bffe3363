"""Low-rank adapters: training a few weights beside frozen ones, and merging them afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from ...modeling import attention_projections, encoder_layers
from .groups import HEAD, parameter_groups


def add_lora(model: PreTrainedModel, settings: Mapping[str, Any]) -> PeftModel:
    """Put low-rank adapters (Hu et al. 2021, arXiv:2106.09685) into a model, in place; they and the head learn.

    Args:
        model: an encoder with a new head.
        settings: of `peft.LoraConfig`. Unless `target_modules` says otherwise, queries and values get adapters, as in
            the paper.

    Returns:
        The wrapped model; `merge_and_unload()` makes the stock one of it again.
    """
    maps = attention_projections(encoder_layers(model)[0])
    targets = [maps[role] for role in ("query", "value", "fused") if role in maps]
    names = {name.rsplit(".", 1)[-1] for name, module in encoder_layers(model)[0].named_modules() if module in targets}
    head = parameter_groups(model)[HEAD]
    adapted = get_peft_model(model, LoraConfig(**{"target_modules": sorted(names)} | dict(settings)))
    for parameter in head:
        parameter.requires_grad_(True)
    return adapted
