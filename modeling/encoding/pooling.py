"""Pools token vectors into one vector per row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .layout import TokenLayout

# These poolers read only the last hidden state and can be concatenated.
_LAST_STATE_POOLERS = ("mean", "cls_before_pooler", "last_token", "max")
POOLERS = (*_LAST_STATE_POOLERS, "cls", "mean_last_two", "mean_first_last", "mean_first")


@dataclass(frozen=True)
class Pooling:
    """How token vectors become one vector per row.

    Attributes:
        modes: one or several of `POOLERS`. The vectors of several modes are concatenated in this order.
        skipped: number of tokens to leave out at the start of every row: those of a prompt that is not pooled.

    Raises:
        ValueError: there is no mode, a mode is unknown, or a mode can't be concatenated or can't skip tokens.
    """

    modes: tuple[str, ...]
    skipped: int = 0

    def __post_init__(self):
        for mode in self.modes:
            if mode not in POOLERS:
                raise ValueError(f"Unknown pooler {mode!r}. Choose one of: {', '.join(POOLERS)}.")
        alone = [mode for mode in self.modes if mode not in _LAST_STATE_POOLERS]
        if not self.modes or (alone and (len(self.modes) > 1 or self.skipped)):
            raise ValueError(
                f"Poolers {' + '.join(self.modes) or '(none)'} with {self.skipped} skipped tokens: only "
                f"{', '.join(_LAST_STATE_POOLERS)} can be concatenated or skip tokens."
            )

    @classmethod
    def of(cls, pooler: str | Pooling) -> Pooling:
        """The `Pooling` of a pooler's name. A `Pooling` is returned as it is."""
        return cls((pooler,)) if isinstance(pooler, str) else pooler

    def __str__(self) -> str:
        return " + ".join(self.modes)


def pooled_hidden_states(pooler: str | Pooling, depth: int) -> tuple[int, ...]:
    """Indices of the hidden states that a pooler reads, as in transformers: 0 is the embedding layer's output.

    Args:
        pooler: one of `POOLERS`, or a `Pooling`.
        depth: number of encoder layers.
    """
    averaged = {"mean_last_two": (depth - 1, depth), "mean_first_last": (0, depth), "mean_first": (0,)}
    return averaged.get(Pooling.of(pooler).modes[0], (depth,))


def pool(
    pooler: str | Pooling,
    layout: TokenLayout,
    hidden_states: dict[int, Tensor],
    encoder: nn.Module | None = None,
) -> Tensor:
    """Pool token vectors into one vector per row.

    Args:
        pooler: a `Pooling`, or the name of one: `"mean"` over the tokens of the last layer, special tokens included, as
            in sentence-transformers; `"cls"`, the model's own pooler on the first token; `"cls_before_pooler"`, the
            first token's hidden state; `"last_token"`; `"max"` of each feature over the tokens; `"mean_last_two"` and
            `"mean_first_last"`, the mean over tokens of the average of two hidden states, where the first is the
            embedding layer's output (SimCSE's `avg_top2` and `avg_first_last`); `"mean_first"`, the mean over tokens of
            the embedding layer's output. Hidden states are those of transformers: in pre-norm encoders (ModernBERT)
            only the last one has passed the final norm. As in SimCSE and sentence-transformers, hidden states are
            averaged as they are, although those before the final norm may be much longer.
        layout: the rows and tokens of the batch.
        hidden_states: the hidden states that `pooled_hidden_states` names, each `[tokens, hidden]`.
        encoder: the encoder without a head; only `"cls"` needs it.

    Returns:
        `[rows, modes * hidden]`
    """
    pooling = Pooling.of(pooler)
    last = hidden_states[max(hidden_states)]
    if pooling.modes == ("cls",):
        own = None if encoder is None else _own_pooler(encoder)
        if own is None:
            raise ValueError(
                "pooler='cls' needs an encoder with a pooler of its own (BERT, RoBERTa, MPNet). This encoder has none: "
                "use 'cls_before_pooler' or 'mean'."
            )
        return own(layout.first(last)[:, None])
    # Summing many bfloat16 vectors would lose precision.
    states = [state.float() for state in hidden_states.values()]
    averaged = sum(states[1:], start=states[0]) / len(states)
    ways = {"cls_before_pooler": _first, "last_token": _last, "max": _maximum}
    vectors = [
        ways[mode](layout, last, pooling.skipped) if mode in ways else _mean(layout, averaged, pooling.skipped)
        for mode in pooling.modes
    ]
    return vectors[0] if len(vectors) == 1 else torch.cat([vector.float() for vector in vectors], dim=-1)


def _own_pooler(encoder: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """How an encoder computes its `pooler_output`: from `[rows, seq, hidden]`, of which it reads the first token, to
    `[rows, hidden]`. None if it has no pooler.

    Raises:
        ValueError: the pooler is a linear map, and no activation is registered after it.
    """
    pooler = getattr(encoder, "pooler", None)
    if not isinstance(pooler, nn.Linear):
        return pooler
    # ALBERT and BigBird take the first token and apply the activation in their own forward pass.
    parts = list(encoder.children())
    activation = next(iter(parts[parts.index(pooler) + 1 :]), None)
    if activation is None or any(True for _ in activation.parameters()):
        raise ValueError(
            f"pooler='cls' needs an encoder whose pooler is a module of its own, but that of {type(encoder).__name__} "
            "is a linear map whose activation wasn't found. Use 'cls_before_pooler' or 'mean'."
        )
    return lambda states: activation(pooler(states[:, 0]))


# If all tokens of a row are skipped, the result is that of sentence-transformers: zeros, the first token (cls) or minus
# infinity (max).


def _mean(layout: TokenLayout, flat: Tensor, skipped: int) -> Tensor:
    if not skipped:
        return layout.mean(flat)
    kept = flat * (layout.positions >= skipped)[:, None]
    return layout.mean(kept) * (layout.lengths / (layout.lengths - skipped).clamp(min=1))[:, None]


def _first(layout: TokenLayout, flat: Tensor, skipped: int) -> Tensor:
    return flat[layout.starts + skipped * (layout.lengths > skipped)]


def _last(layout: TokenLayout, flat: Tensor, skipped: int) -> Tensor:
    return flat[layout.starts + layout.lengths - 1] * (layout.lengths > skipped)[:, None]


def _maximum(layout: TokenLayout, flat: Tensor, skipped: int) -> Tensor:
    left_out = (layout.positions < skipped)[:, None]
    lowest = float("-inf")
    return layout.pad(flat.masked_fill(left_out, lowest) if skipped else flat, lowest).amax(1)
