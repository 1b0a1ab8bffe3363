"""From token vectors to one vector per row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .layout import TokenLayout

# Those before "cls" read the last hidden state alone, and may be concatenated.
_OF_THE_LAST_STATE = ("mean", "cls_before_pooler", "last_token", "max")
POOLERS = (*_OF_THE_LAST_STATE, "cls", "mean_last_two", "mean_first_last", "mean_first")


@dataclass(frozen=True)
class Pooling:
    """How token vectors become one vector per row.

    Attributes:
        modes: of `POOLERS`, one or several whose vectors are concatenated in this order.
        skipped: how many tokens at the start of every row are left out: those of a prompt that is not counted in.

    Raises:
        ValueError: no mode, an unknown one, or one that can't be concatenated or leaves out no tokens.
    """

    modes: tuple[str, ...]
    skipped: int = 0

    def __post_init__(self):
        for mode in self.modes:
            if mode not in POOLERS:
                raise ValueError(f"Unknown pooler {mode!r}. Choose one of: {', '.join(POOLERS)}.")
        alone = [mode for mode in self.modes if mode not in _OF_THE_LAST_STATE]
        if not self.modes or (alone and (len(self.modes) > 1 or self.skipped)):
            raise ValueError(
                f"Poolers {' + '.join(self.modes) or '(none)'}, {self.skipped} tokens left out: only "
                f"{', '.join(_OF_THE_LAST_STATE)} can be concatenated or leave tokens out."
            )

    @classmethod
    def of(cls, pooler: str | Pooling) -> Pooling:
        """A pooler by its name, or as it is."""
        return cls((pooler,)) if isinstance(pooler, str) else pooler

    def __str__(self) -> str:
        return " + ".join(self.modes)


def pooled_hidden_states(pooler: str | Pooling, depth: int) -> tuple[int, ...]:
    """The hidden states that a pooler reads, counted as transformers does: 0 is the embedding layer's output.

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
    pooler_module: nn.Module | None = None,
) -> Tensor:
    """Pool token vectors into one vector per row.

    Args:
        pooler: a `Pooling`, or the name of one: `"mean"` over the tokens of the last layer (special tokens included, as
            sentence-transformers does); `"cls"`, the model's own pooler on the first token; `"cls_before_pooler"`, the
            bare first token; `"last_token"`; `"max"` of each feature over the tokens; `"mean_last_two"` and
            `"mean_first_last"`, the mean over tokens of the average of two hidden states, where the first is the
            embedding layer's output (SimCSE's `avg_top2` and `avg_first_last`); `"mean_first"`, of that one alone.
            Hidden states are those of transformers: of pre-norm encoders (ModernBERT) the last one comes out of the
            final norm, and those below don't. SimCSE and sentence-transformers average them as they are, and so does
            this, though the lower one may be much longer than the normed one.
        layout: where the tokens lie.
        hidden_states: those that `pooled_hidden_states` names, each `[tokens, hidden]`.
        pooler_module: the encoder's `pooler`, which takes `[rows, seq, hidden]` and reads the first token.

    Returns:
        `[rows, modes * hidden]`

    Raises:
        ValueError: `"cls"` is asked of a model without a pooler.
    """
    pooling = Pooling.of(pooler)
    last = hidden_states[max(hidden_states)]
    if pooling.modes == ("cls",):
        if pooler_module is None:
            raise ValueError(
                "pooler='cls' needs an encoder with a pooler of its own (BERT, RoBERTa, MPNet). This one has none: "
                "use 'cls_before_pooler' or 'mean'."
            )
        return pooler_module(layout.first(last)[:, None])
    # Sums of many bfloat16 vectors would lose what little precision they have.
    states = [state.float() for state in hidden_states.values()]
    averaged = sum(states[1:], start=states[0]) / len(states)
    ways = {"cls_before_pooler": _first, "last_token": _last, "max": _maximum}
    vectors = [
        ways[mode](layout, last, pooling.skipped) if mode in ways else _mean(layout, averaged, pooling.skipped)
        for mode in pooling.modes
    ]
    return vectors[0] if len(vectors) == 1 else torch.cat([vector.float() for vector in vectors], dim=-1)


# A row that holds nothing but the tokens left out gives what sentence-transformers gives: zeros, the first token (cls)
# or minus infinity (max).


def _mean(layout: TokenLayout, flat: Tensor, skipped: int) -> Tensor:
    if not skipped:
        return layout.mean(flat)
    kept = flat * (layout.positions >= skipped)[:, None]
    return layout.mean(kept) * (layout.lengths / (layout.lengths - skipped).clamp(min=1))[:, None]


def _first(layout: TokenLayout, flat: Tensor, skipped: int) -> Tensor:
    if not skipped:
        return layout.first(flat)
    return flat[layout.starts + skipped * (layout.lengths > skipped)]


def _last(layout: TokenLayout, flat: Tensor, skipped: int) -> Tensor:
    last = flat[layout.starts + layout.lengths - 1]
    return last * (layout.lengths > skipped)[:, None] if skipped else last


def _maximum(layout: TokenLayout, flat: Tensor, skipped: int) -> Tensor:
    left_out = (layout.positions < skipped)[:, None]
    lowest = float("-inf")
    return layout.pad(flat.masked_fill(left_out, lowest) if skipped else flat, lowest).amax(1)
