"""Finds what each axis of an encoder's weights counts by building the encoder at other sizes.

An axis depends on a size of the configuration if it changes together with it. Encoders are built on the `meta` device,
where weights are shapes without values. So this works for all families without knowing them by name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from ..anatomy import attention_output, attention_projections, encoder_layers, position_projections
from .draft import skeleton

# Names of the width of the feed-forward layers in configurations.
INTERMEDIATE_SIZE_NAMES = ("intermediate_size", "hidden_dim", "d_ff")
# Entries that change together with another entry if both are equal: the widths of word embeddings (ELECTRA, DeBERTa)
# and of the pooler (DeBERTa) with that of the hidden states, the number of key-value heads with that of query heads.
FOLLOWERS = {
    "hidden_size": ("embedding_size", "pooler_hidden_size"),
    "num_attention_heads": ("num_key_value_heads",),
}
# Entries that change with hidden_size / num_attention_heads if they are equal to it.
HEAD_SIZE_NAMES = ("head_dim", "attention_head_size")


class Axis(Enum):
    """What an axis counts."""

    HIDDEN = "channels of the hidden states"
    INTERMEDIATE = "units of the feed-forward layers"
    ATTENTION = "heads times head size"
    HEADS = "heads"


@dataclass(frozen=True)
class AxisLabel:
    """What one axis of a weight counts, and in how many parts.

    A fused projection has three parts: queries, keys and values. A fused gated unit has two: input and gate. All parts
    of an axis are cut in the same way.
    """

    axis: Axis
    parts: int = 1


# Name in the state dict -> one label per axis; None for an axis that narrowing doesn't change (words, positions,
# classes).
Labels = dict[str, tuple[AxisLabel | None, ...]]


@dataclass(frozen=True)
class Widths:
    """The sizes of an encoder that narrowing changes."""

    hidden_size: int
    intermediate_size: int
    num_attention_heads: int

    @property
    def head_size(self) -> int:
        """Number of channels of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @classmethod
    def of(cls, config: PreTrainedConfig) -> Widths:
        """Read the sizes from a configuration."""
        if not hasattr(config, "num_attention_heads"):
            raise ValueError(f"Can't narrow a model of {type(config).__name__}, which has no num_attention_heads.")
        return cls(config.hidden_size, getattr(config, _intermediate_name(config)), config.num_attention_heads)

    def settings(self, config: PreTrainedConfig) -> dict[str, int]:
        """The entries of `config` for these sizes, including entries that change together with a size."""
        changed = {_intermediate_name(config): self.intermediate_size}
        for size, followers in FOLLOWERS.items():
            equal = [name for name in followers if getattr(config, name, None) == getattr(config, size)]
            changed |= dict.fromkeys([size, *equal], getattr(self, size))
        before = config.hidden_size // config.num_attention_heads
        return changed | {name: self.head_size for name in HEAD_SIZE_NAMES if getattr(config, name, None) == before}


def _intermediate_name(config: PreTrainedConfig) -> str:
    for name in INTERMEDIATE_SIZE_NAMES:
        if hasattr(config, name):
            return name
    raise ValueError(
        f"{type(config).__name__} has no width of feed-forward layers ({' or '.join(INTERMEDIATE_SIZE_NAMES)})."
    )


def label_units(architecture: type[PreTrainedModel], config: PreTrainedConfig) -> Labels:
    """Label the axes that count units of the feed-forward layers, and no others.

    This suffices for a student with the teacher's hidden size and heads. So it also works for grouped keys and values
    and for head sizes other than `hidden_size / num_attention_heads`.
    """
    widths = Widths.of(config)
    taller = replace(widths, intermediate_size=2 * widths.intermediate_size)
    before, after = (_shapes(architecture, config, sizes) for sizes in (widths, taller))

    def label(name: str, axis: int) -> AxisLabel | None:
        times = _times(widths.intermediate_size, before[name][axis], after[name][axis], 2)
        if times is None:
            raise ValueError(
                f"Can't narrow {architecture.__name__}: axis {axis} of {name} {list(before[name])} changes with "
                f"intermediate_size={widths.intermediate_size}, but is no multiple of it."
            )
        return AxisLabel(Axis.INTERMEDIATE, times) if times else None

    return {name: tuple(label(name, axis) for axis in range(len(shape))) for name, shape in before.items()}


def label_axes(architecture: type[PreTrainedModel], config: PreTrainedConfig) -> Labels:
    """Label every axis of every weight."""
    widths = Widths.of(config)
    # Factorised embeddings have no projection if both widths are equal, so that size is avoided.
    factor = 3 if getattr(config, "embedding_size", None) == 2 * widths.hidden_size else 2
    wider = replace(widths, hidden_size=factor * widths.hidden_size)
    taller = replace(widths, intermediate_size=2 * widths.intermediate_size)
    more_heads = replace(wider, num_attention_heads=2 * widths.num_attention_heads)

    attention = _attention_axes(skeleton(architecture, config))
    shapes, when_wider, when_taller, with_more_heads = (
        _shapes(architecture, config, sizes) for sizes in (widths, wider, taller, more_heads)
    )

    def label(name: str, axis: int) -> AxisLabel | None:
        size = shapes[name][axis]
        in_hidden = _times(widths.hidden_size, size, when_wider[name][axis], factor)
        in_intermediate = _times(widths.intermediate_size, size, when_taller[name][axis], 2)
        of_heads = (name, axis) in attention
        if in_hidden and in_intermediate == 0:
            return AxisLabel(Axis.ATTENTION if of_heads else Axis.HIDDEN, in_hidden)
        if in_intermediate and in_hidden == 0 and not of_heads:
            return AxisLabel(Axis.INTERMEDIATE, in_intermediate)
        if in_hidden == in_intermediate == 0 and not of_heads:
            # Only one known weight has an axis that counts heads: MPNet's bias for relative positions.
            return AxisLabel(Axis.HEADS) if with_more_heads[name][axis] != when_wider[name][axis] else None
        raise ValueError(
            f"Can't narrow {architecture.__name__}: axis {axis} of {name} {list(shapes[name])} is no multiple of "
            f"hidden_size={widths.hidden_size} or of intermediate_size={widths.intermediate_size}. Possible causes are "
            "grouped keys and values, or an unusual head size. Leave hidden_size and num_attention_heads "
            "out. intermediate_size and layers may still make the student smaller."
        )

    return {name: tuple(label(name, axis) for axis in range(len(shape))) for name, shape in shapes.items()}


def _times(unit: int, before: int, after: int, factor: int) -> int | None:
    """How many times an axis contains `unit`, a size that was multiplied by `factor`: 0 if the axis doesn't change with
    it, None if it changes but is not a multiple of it."""
    if after == before:
        return 0
    return before // unit if before % unit == 0 and after == factor * before else None


def _shapes(architecture: type[PreTrainedModel], config: PreTrainedConfig, sizes: Widths) -> dict[str, torch.Size]:
    """The shapes of a model's weights at these sizes."""
    weights = skeleton(architecture, config, **sizes.settings(config)).state_dict()
    return {name: tensor.shape for name, tensor in weights.items()}


def _attention_axes(model: PreTrainedModel) -> set[tuple[str, int]]:
    """`(name, axis)` of the axes that count heads times head size. They have the size of the hidden states, but don't
    count their channels."""
    names = {module: name for name, module in model.named_modules()}
    axes = set()
    for layer in encoder_layers(model):
        for projection in [*attention_projections(layer).values(), *position_projections(layer)]:
            axes |= {(f"{names[projection]}.weight", 0), (f"{names[projection]}.bias", 0)}
        axes.add((f"{names[attention_output(layer)]}.weight", 1))
    return axes
