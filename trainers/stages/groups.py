"""The parts of a model that a stage trains or freezes: groups of parameters, and low-rank adapters beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import PreTrainedModel

from ...modeling import (
    PROJECTOR,
    attention_projections,
    backbone,
    encoder_layers,
    layers_name,
    parts_between_layers,
    split_layer_name,
)

if TYPE_CHECKING:
    from peft import PeftModel

HEAD, EMBEDDINGS, ENCODER = "head", "embeddings", "encoder"


def parameter_groups(model: PreTrainedModel) -> dict[str, list[nn.Parameter]]:
    """All parameters of a model, each in one group; groups are named and ordered from the top down.

    - `head`: what comes after the last layer: classifiers, poolers, a final norm;
    - `projector`: the map from the encoder's width to the classifier's, where there is one;
    - `layer.N-1` … `layer.0`: the encoder's layers;
    - `embeddings`: what comes before the first layer, tables of relative positions that layers share, and DeBERTa's
      norm of these and its convolution. An output layer that is tied to the word embeddings is one of them.

    Groups without parameters are left out.
    """
    layers = layers_name(model)
    inside = {id(parameter) for parameter in backbone(model).parameters()}
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
    """The groups that `names` stand for, from the top down.

    Args:
        names: of groups; `encoder` stands for all layers and the embeddings.
        groups: the groups there are (see `parameter_groups`).

    Raises:
        ValueError: a name that stands for no group.
    """
    groups, names = tuple(groups), tuple(names)
    known = {name: {name} for name in groups}
    known[ENCODER] = {name for name in groups if name == EMBEDDINGS or name.startswith("layer.")}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"There is no group of parameters called {unknown[0]!r}. This model has {', '.join(groups)}; "
            f"{ENCODER!r} stands for all layers and the embeddings."
        )
    chosen = set().union(*(known[name] for name in names))
    return tuple(name for name in groups if name in chosen)


def unfreezing_order(groups: Iterable[str], by: str) -> list[tuple[str, ...]]:
    """What gradual unfreezing trains in each of its stages: from the head down, each group beside those before.

    The reverse of ULMFiT's order would start at the bottom; XtremeDistil (Mukherjee & Awadallah 2020,
    arXiv:2004.05686, section 4.3) starts at the top, whose weights are the newest.

    Args:
        groups: the groups there are, from the top down.
        by: `"encoder"`, all layers and the embeddings at once as in XtremeDistilTransformers; `"layers"`, one by one.

    Returns:
        The groups that are trained, stage by stage.

    Raises:
        ValueError: another `by`.
    """
    if by not in ("encoder", "layers"):
        raise ValueError(f"gradual_unfreezing={by!r}: choose 'encoder' (as one group) or 'layers' (one by one).")
    groups = tuple(groups)
    encoder = resolve_groups([ENCODER], groups)
    above = [(name,) for name in groups if name not in encoder]
    return list(accumulate([*above, encoder] if by == "encoder" else [*above, *((name,) for name in encoder)]))


def trained_parameters(
    model: PreTrainedModel, names: Iterable[str] | None, *, freeze_words: bool = False
) -> list[nn.Parameter]:
    """The parameters that learn where some groups are trained.

    Args:
        model: the student.
        names: of groups, as `resolve_groups` takes them; None for all.
        freeze_words: leave the table of word embeddings out even where `embeddings` are trained.
    """
    groups = parameter_groups(model)
    words = model.get_input_embeddings().weight if freeze_words else None
    chosen = groups if names is None else resolve_groups(names, groups)
    return [parameter for name in chosen for parameter in groups[name] if parameter is not words]


def train_only(model: PreTrainedModel, names: Iterable[str] | None, *, freeze_words: bool = False) -> None:
    """Let the parameters that `trained_parameters` names learn, and freeze all others."""
    learning = set(map(id, trained_parameters(model, names, freeze_words=freeze_words)))
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in learning)


def add_lora(model: PreTrainedModel, settings: Mapping[str, Any]) -> PeftModel:
    """Put low-rank adapters (Hu et al. 2021, arXiv:2106.09685) into a model, in place; they and the head learn.

    Args:
        model: an encoder with a new head.
        settings: of `peft.LoraConfig`. Unless `target_modules` says otherwise, queries and values get adapters, as in
            the paper.

    Returns:
        The wrapped model; `merge_and_unload()` makes the stock one of it again.
    """
    from peft import LoraConfig, get_peft_model

    maps = attention_projections(encoder_layers(model)[0])
    targets = [maps[role] for role in ("query", "value", "fused") if role in maps]
    names = {name.rsplit(".", 1)[-1] for name, module in encoder_layers(model)[0].named_modules() if module in targets}
    head = parameter_groups(model)[HEAD]
    adapted = get_peft_model(model, LoraConfig(**{"target_modules": sorted(names)} | dict(settings)))
    for parameter in head:
        parameter.requires_grad_(True)
    return adapted
