"""Fewer layers: which of the teacher's become the student's, chosen or averaged."""

from collections.abc import Sequence
from itertools import pairwise
from operator import index

import torch
from torch import Tensor
from transformers.utils import logging

from ..anatomy import split_layer_name
from .draft import Draft

logger = logging.get_logger(__name__)

LAYER_INITS = ("select", "average")


def with_layers(draft: Draft, layers: int | Sequence[int] | None, layer_init: str) -> Draft:
    """The same student with fewer layers; `layer_groups` says which.

    A weight that only some layers of an averaged run have is the mean over those, and one that has no place where
    its layer has moved to is left out with a warning: ModernBERT's first layer has no norm before its attention.
    """
    if layers is None:
        return draft
    groups = layer_groups(layers, layer_init, draft.config.num_hidden_layers)
    settings = {"num_hidden_layers": len(groups)}
    if types := getattr(draft.config, "layer_types", None):
        settings["layer_types"] = [types[group[0]] for group in groups]
    shallower = draft.changed(_regroup(draft.tensors, draft.layers_name, groups), **settings)
    homes = shallower.outline.state_dict()
    homeless = [name for name in shallower.tensors if name not in homes]
    if homeless:
        logger.warning(
            "%s has no place for %d of the teacher's weights in the layers they moved to; the student goes without: %s",
            draft.architecture.__name__,
            len(homeless),
            ", ".join(homeless),
        )
    return shallower.changed({name: tensor for name, tensor in shallower.tensors.items() if name in homes})


def layer_groups(layers: int | Sequence[int], layer_init: str, depth: int) -> list[tuple[int, ...]]:
    """The teacher's layers that each of the student's is made of.

    A number k selects layers `i * (depth - 1) // (k - 1)` for i from 0 to k - 1: evenly spaced, the first and the last
    among them (3 of 6: 0, 2, 5; one alone: the first). Averaging cuts the teacher into k runs of neighbours
    instead, from `i * depth // k` on: their lengths differ by one at most (4 of 6: 0, 1 and 2, 3, 4 and 5).

    Args:
        layers: how many; or which, in the student's order, counted from the end where negative.
        layer_init: `"select"` or `"average"`.
        depth: number of the teacher's layers.

    Returns:
        One tuple of the teacher's layer indices for each of the student's layers.

    Raises:
        ValueError: more layers than the teacher has, none at all, one that doesn't exist or comes twice, or an
            average of named layers.
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
        raise ValueError(f"layers={list(layers)} names a layer twice, but a student has each at most once.")
    return chosen


def _regroup(tensors: dict[str, Tensor], layers_name: str, groups: list[tuple[int, ...]]) -> dict[str, Tensor]:
    """Make one layer of each group: the teacher's own tensors, or new ones where there is something to average."""
    layers: dict[int | None, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        position, part = split_layer_name(name, layers_name)
        layers.setdefault(position, {})[part] = tensor
    regrouped = layers[None]
    for position, group in enumerate(groups):
        for part in dict.fromkeys(part for i in group for part in layers[i]):
            members = [layers[i][part] for i in group if part in layers[i]]
            mean = torch.stack([t.double() for t in members]).mean(0).float() if len(members) > 1 else members[0]
            regrouped[f"{layers_name}.{position}.{part}"] = mean
    return regrouped
