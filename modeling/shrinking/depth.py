"""Builds students with fewer layers by selecting or averaging the teacher's layers."""

from collections.abc import Sequence
from itertools import pairwise
from operator import index
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from ..anatomy import number_of_layers, split_layer_name
from .draft import Draft

LAYER_INITS = ("select", "average")


def with_layers(draft: Draft, groups: list[tuple[int, ...]] | None) -> Draft:
    """The same student with fewer layers, one for each of the `groups` (see `layer_groups`).

    Lists in the configuration that have a value for each layer are adapted. A weight that only the teacher's first
    layer has (T5's bias for relative positions) is kept in the student's first layer. An averaged layer has the same
    weights by name as the first layer of its group.
    """
    if groups is None:
        return draft
    shallower = draft.changed(
        _regroup(draft.tensors, draft.layers_name, groups), **_depth_settings(draft.config, groups)
    )
    _check_the_rest(draft, shallower)
    prefix = f"{draft.layers_name}."
    homes = {name for name in shallower.outline.state_dict() if name.startswith(prefix)}
    made = {name for name in shallower.tensors if name.startswith(prefix)}
    tied = shallower.outline.all_tied_weights_keys
    lost, lacking = sorted(made - homes), sorted(homes - made - set(tied))
    if lost or lacking:  # ModernBERT's first layer has no norm before its attention
        what = f"has no place for the teacher's {lost[0]}" if lost else f"needs a {lacking[0]}, which the teacher lacks"
        raise ValueError(
            f"{draft.architecture.__name__} with layers {', '.join(str(group[0]) for group in groups)} of its teacher "
            f"{what}: its first layer differs from the others. Keep layer 0 as the first layer, and only there."
        )
    shallower.check()
    return shallower


def _check_the_rest(draft: Draft, shallower: Draft) -> None:
    """Refuse fewer layers if a weight outside the layers has a size that depends on their number (ESM)."""
    shapes = shallower.outline.state_dict()
    for name, tensor in draft.tensors.items():
        inside = name.startswith(f"{draft.layers_name}.")
        if not inside and name in shapes and shapes[name].shape != tensor.shape:
            ours, theirs = (number_of_layers(each.config) for each in (shallower, draft))
            raise ValueError(
                f"Can't choose layers of {draft.architecture.__name__}: its {name} is {list(tensor.shape)} with "
                f"{theirs} layers, but {list(shapes[name].shape)} with {ours}. Keep all layers."
            )


def _depth_settings(config: PreTrainedConfig, groups: list[tuple[int, ...]]) -> dict[str, Any]:
    """The entries of a configuration that depend on the layers, for a student with these groups."""
    depth = number_of_layers(config)
    settings: dict[str, Any] = {"num_hidden_layers": config.num_hidden_layers // depth * len(groups)}
    if hasattr(config, "num_unique_layers"):
        settings["num_unique_layers"] = len(groups)
    for name, value in vars(config).items():
        if isinstance(value, list | tuple) and len(value) == depth:
            settings[name] = type(value)(value[group[0]] for group in groups)
    return settings


def layer_groups(layers: int | Sequence[int], layer_init: str, depth: int) -> list[tuple[int, ...]]:
    """The teacher's layers for each of the student's layers.

    A number k selects layers `i * (depth - 1) // (k - 1)` for i from 0 to k - 1: evenly spaced, including the first and
    the last one (3 of 6: 0, 2, 5; 1 of 6: 0). Averaging splits the teacher's layers into k runs of consecutive layers
    that start at `i * depth // k`. Their lengths differ by at most one (4 of 6: 0, 1 and 2, 3, 4 and 5).

    Args:
        layers: the number of layers, or their indices in the student's order. Negative indices count from the end.
        layer_init: `"select"` or `"average"`.
        depth: number of the teacher's layers.

    Returns:
        One tuple of the teacher's layer indices for each of the student's layers.
    """
    if isinstance(layers, Sequence) and not isinstance(layers, str):
        if layer_init == "average":
            raise ValueError(
                f"layer_init='average' averages runs of neighbouring layers, so it needs their number: layers=k, "
                f"1 to {depth}, not layers={list(layers)}."
            )
        return [(i,) for i in _checked_layers(layers, depth)]
    try:
        count = index(layers)
    except TypeError:
        raise ValueError(
            f"layers={layers!r} is neither a number of layers nor a list of their indices. "
            "range(k) names the first k, range(-k, 0) the last."
        ) from None
    if not 1 <= count <= depth:
        raise ValueError(f"layers={count}, but a student of this teacher has 1 to {depth} layers.")
    if layer_init == "average":
        return [tuple(range(*bounds)) for bounds in pairwise(i * depth // count for i in range(count + 1))]
    return [(i * (depth - 1) // max(count - 1, 1),) for i in range(count)]


def _checked_layers(layers: Sequence[int], depth: int) -> list[int]:
    wrong = [i for i in layers if not -depth <= i < depth]
    if wrong or not layers:
        raise ValueError(
            f"layers={list(layers)} names {f'layer {wrong[0]}' if wrong else 'no layer'}, but the teacher's {depth} "
            f"layers are 0 to {depth - 1} (or -{depth} to -1, counted from the end)."
        )
    chosen = [i % depth for i in layers]
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"layers={list(layers)} names a layer twice, but a student has each layer at most once.")
    return chosen


def _regroup(tensors: dict[str, Tensor], layers_name: str, groups: list[tuple[int, ...]]) -> dict[str, Tensor]:
    """The weights of one layer for each group: the teacher's own tensors, or new tensors with their averages."""
    layers: dict[int | None, dict[str, Tensor]] = {None: {}}
    for name, tensor in tensors.items():
        position, part = split_layer_name(name, layers_name)
        layers.setdefault(position, {})[part] = tensor
    regrouped = layers.pop(None)
    others = {part for position, members in layers.items() if position for part in members}
    only_first = {part: tensor for part, tensor in layers[0].items() if part not in others} if len(layers) > 1 else {}
    for place, group in enumerate(groups):
        parts = [part for part in layers[group[0]] if part not in only_first]
        for part in parts:
            members = [layers[i][part] for i in group if part in layers[i]]
            mean = torch.stack([t.double() for t in members]).mean(0).float() if len(members) > 1 else members[0]
            regrouped[f"{layers_name}.{place}.{part}"] = mean
    return regrouped | {f"{layers_name}.0.{part}": tensor for part, tensor in only_first.items()}
