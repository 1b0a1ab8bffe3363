"""Groups of parameters that a stage trains or freezes, and low-rank adapters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

from torch import nn
from transformers import PreTrainedModel

from ...modeling import (
    PROJECTOR,
    attention_projections,
    encoder_layers,
    layers_name,
    parts_between_layers,
    split_layer_name,
)
from ..checks import MERGED_LATER

if TYPE_CHECKING:
    from peft import PeftModel

HEAD, EMBEDDINGS, ENCODER = "head", "embeddings", "encoder"


def parameter_groups(model: PreTrainedModel) -> dict[str, list[nn.Parameter]]:
    """All parameters of a model, each in one group, from the top layer down.

    - `head`: modules after the last layer: classifiers, poolers, a final norm;
    - `projector`: the map from the encoder's width to the classifier's, if there is one;
    - `layer.N-1` … `layer.0`: the encoder's layers;
    - `embeddings`: modules before the first layer, relative position embeddings that layers share, and DeBERTa's norm
      of these and its convolution. An output layer that is tied to the word embeddings belongs to this group.

    Groups without parameters are left out.
    """
    layers = layers_name(model)
    inside = {id(parameter) for parameter in model.base_model.parameters()}
    early = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    early |= {id(parameter) for part in parts_between_layers(model) for parameter in part.parameters()}
    depth = len(encoder_layers(model))
    order = [HEAD, PROJECTOR, *(f"layer.{index}" for index in reversed(range(depth))), EMBEDDINGS]
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in order}
    below = True
    for name, parameter in model.named_parameters():
        layer, _ = split_layer_name(name, layers)
        if layer is not None:
            group, below = f"layer.{layer}", False
        elif PROJECTOR in name.split("."):
            group = PROJECTOR
        else:
            group = EMBEDDINGS if id(parameter) in early or (below and id(parameter) in inside) else HEAD
        groups[group].append(parameter)
    return {name: parameters for name, parameters in groups.items() if parameters}


def resolve_groups(names: Iterable[str], groups: Iterable[str]) -> tuple[str, ...]:
    """The groups with these names, from the top down.

    Args:
        names: names of groups; `encoder` means all layers and the embeddings.
        groups: the model's groups (see `parameter_groups`).
    """
    groups, names = tuple(groups), tuple(names)
    known = {name: {name} for name in groups}
    known[ENCODER] = {name for name in groups if name == EMBEDDINGS or name.startswith("layer.")}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"There is no group of parameters called {unknown[0]!r}. This model has {', '.join(groups)}; "
            f"{ENCODER!r} means all layers and the embeddings."
        )
    chosen = set().union(*(known[name] for name in names))
    return tuple(name for name in groups if name in chosen)


def unfreezing_order(groups: Iterable[str], by: Literal["encoder", "layers"]) -> list[tuple[str, ...]]:
    """The groups that each stage of gradual unfreezing trains. Each stage adds one group, from the head down.

    XtremeDistil (Mukherjee & Awadallah 2020, arXiv:2004.05686, section 4.3) starts at the top, where the weights are
    new.

    Args:
        groups: the model's groups, from the top down.
        by: `"encoder"` unfreezes all layers and the embeddings at once, as in XtremeDistilTransformers; `"layers"` one
            by one.
    """
    groups = tuple(groups)
    encoder = resolve_groups([ENCODER], groups)
    above = [(name,) for name in groups if name not in encoder]
    return list(accumulate([*above, encoder] if by == "encoder" else [*above, *((name,) for name in encoder)]))


def trained_parameters(
    model: PreTrainedModel, names: Iterable[str] | None, *, freeze_words: bool = False
) -> list[nn.Parameter]:
    """The parameters of the groups with these names.

    Args:
        model: the student.
        names: names of groups (see `resolve_groups`); None for all.
        freeze_words: leave out the word embeddings even if the group `embeddings` is trained.
    """
    groups = parameter_groups(model)
    words = model.get_input_embeddings().weight if freeze_words else None
    chosen = groups if names is None else resolve_groups(names, groups)
    return [parameter for name in chosen for parameter in groups[name] if parameter is not words]


def train_only(model: PreTrainedModel, names: Iterable[str] | None, *, freeze_words: bool = False) -> None:
    """Unfreeze the parameters of `trained_parameters`, and freeze all others."""
    learning = set(map(id, trained_parameters(model, names, freeze_words=freeze_words)))
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in learning)


def add_lora(model: PreTrainedModel, settings: Mapping[str, Any]) -> PeftModel:
    """Add low-rank adapters (Hu et al. 2021, arXiv:2106.09685) to a model, in place; only they and the head learn.

    Args:
        model: an encoder with a new head.
        settings: arguments of `peft.LoraConfig`. By default queries and values get adapters, as in the paper.

    Returns:
        The wrapped model. `merge_and_unload()` returns the stock model again.
    """
    from peft import LoraConfig, get_peft_model

    if not len(encoder_layers(model)):
        raise ValueError(f"lora adds adapters to layers, but a {type(model).__name__} has none. Leave out lora.")
    maps = attention_projections(encoder_layers(model)[0])
    targets = [maps[role] for role in ("query", "value", "fused") if role in maps]
    names = {name.rsplit(".", 1)[-1] for name, module in encoder_layers(model)[0].named_modules() if module in targets}
    head = parameter_groups(model)[HEAD]
    adapted = get_peft_model(model, LoraConfig(**{"target_modules": sorted(names)} | dict(settings)))
    for parameter in head:
        parameter.requires_grad_(True)
    setattr(model, MERGED_LATER, True)
    return adapted
