"""Packed batches: all rows of a batch as one row of `[1, tokens]`, with attention inside each row only.

Embeddings, feed-forward layers and norms work token by token, so they need no rows and no padding. Only attention
does, and transformers lets a model's attention be swapped by name (`AttentionInterface`) and hands it the keyword
arguments of the forward call. `enable_packing` names an attention that takes `packing=`, cuts the tokens into runs of
rows of equal length, views each run as `[rows, heads, length, head_size]` and attends there: no mask, no padding and
no copy, on models nobody had to patch.

transformers' `DataCollatorWithFlattening` is no substitute: bidirectional masks ignore its `position_ids`, and the
sentences of a batch attend to each other.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ..anatomy import backbone
from ..modes import evaluating, gathered
from .layout import TokenLayout

IMPLEMENTATION = "retort_packed"

# oneDNN makes a kernel for every shape of a matrix product and keeps 1,024 of them, so shapes should come back. For
# three layers in bfloat16, 100 steps of 64 rows on one core: 5 % less time, 14 % less memory.
GRANULE = 64


@dataclass(frozen=True)
class Packing:
    """How the tokens of a packed batch `[1, tokens]` fall into rows, for `model(..., packing=packing)`.

    Holds plain numbers and no tensors: attention never waits for the device to learn a shape.

    Attributes:
        runs: `(rows, length)` of each run of neighbouring rows that are equally long. Fewer runs are faster, and
            rows sorted by length give the fewest.
        tail: tokens behind the last row that belong to none (see `rounded_up`). They attend to nothing.
    """

    runs: tuple[tuple[int, int], ...]
    tail: int = 0

    @classmethod
    def from_layout(cls, layout: TokenLayout) -> Packing:
        """Find the runs in a layout that lies on the CPU (elsewhere this would wait for the device)."""
        lengths, rows = torch.unique_consecutive(layout.lengths, return_counts=True)
        return cls(tuple(zip(rows.tolist(), lengths.tolist(), strict=True)))

    @property
    def tokens(self) -> int:
        """Number of tokens in all rows."""
        return sum(rows * length for rows, length in self.runs)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Packing:
        """Itself: there is nothing to move. A batch is moved by calling `to` on all that it holds."""
        return self


def enable_packing(model: PreTrainedModel) -> None:
    """Let `model` take packed batches: `model(input_ids, position_ids=..., packing=Packing.from_layout(layout))`.

    Calls without `packing=` keep working and compute what `sdpa` computes. The choice isn't saved with the model.

    What the model returns for a packed batch is packed too: `last_hidden_state` and the logits of token and
    masked-LM heads are `[1, tokens, ...]` (`TokenLayout.flatten` takes them). Whatever reads the first token of
    a batch row (BERT's pooler, sequence classification heads) sees one row only and returns the first row's output;
    apply such a head to `layout.first(layout.flatten(hidden))` instead.

    Raises:
        ValueError: the architecture can't be packed (see `supports_packing`).
    """
    if not supports_packing(model):
        raise ValueError(
            f"{type(model).__name__} ({model.config.model_type}) can't take packed batches: its attention can't be "
            "swapped, or its outputs differ between a packed and a padded batch. Use padded ones (packed=False)."
        )
    model.set_attn_implementation(IMPLEMENTATION)


def rounded_up(inputs: dict[str, Any]) -> dict[str, Any]:
    """A packed batch with a tail that makes its tokens a multiple of `GRANULE`.

    Args:
        inputs: forward arguments: `packing`, and tensors `[1, tokens]`.

    Returns:
        The same, with zeros behind the last row of each tensor. Rows don't see them; `TokenLayout.flatten` cuts them
        off what the model returns.
    """
    tail = -inputs["packing"].tokens % GRANULE
    tensors = {name: F.pad(tensor, (0, tail)) for name, tensor in inputs.items() if name != "packing"}
    return tensors | {"packing": replace(inputs["packing"], tail=tail)}


def supports_packing(model: PreTrainedModel) -> bool:
    """Whether `model` gives the same hidden states for a packed batch as for a padded one.

    Asks the class whether its attention can be swapped (MPNet's and DeBERTa's can't), then runs the encoder once on
    13 tokens both ways. The run finds what no flag tells: MobileBERT's attention can be swapped, but its embeddings
    mix neighbouring tokens. The model is left as it was, and no random number is drawn.
    """
    parameters = inspect.signature(backbone(model).forward).parameters.values()
    takes_any_argument = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    attends_both_ways = not any(getattr(module, "is_causal", False) for module in model.modules())
    is_encoder = attends_both_ways and not getattr(model.config, "is_encoder_decoder", False)
    can_swap_attention = model._supports_attention_backend and model._can_set_attn_implementation()
    if not (takes_any_argument and is_encoder and can_swap_attention):
        return False
    with torch.no_grad(), gathered(model), evaluating(model), _attending(model, IMPLEMENTATION):
        return _packs_like_padded(backbone(model))


def position_offset(model: PreTrainedModel) -> int:
    """The position id of a row's first token: 0, or `padding_idx + 1` for models that count as RoBERTa does.

    Such models keep a row of their position table for padding, which is how they are told apart.
    """
    for name, module in backbone(model).named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            return module.padding_idx + 1
    return 0


def _packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    packing: Packing | None = None,
    sliding_window: int | None = None,
    **kwargs,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention, inside each row of a packed batch if there is one.

    Args:
        module: the attention module that asks.
        query: `[1, heads, tokens, head_size]` when packed; `key` and `value` likewise.
        key: see `query`.
        value: see `query`.
        attention_mask: what `sdpa` would get; unused when packed, where no row is padded.
        packing: the rows; without it this is `sdpa`.
        sliding_window: tokens see others less than this many places away (ModernBERT's local layers).
        **kwargs: whatever else the model passes on, for `sdpa`.

    Returns:
        `[1, tokens, heads, head_size]`, and no weights.
    """
    if packing is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, sliding_window=sliding_window, **kwargs
        )
    expected = packing.tokens + packing.tail
    if query.shape[0] != 1 or query.shape[2] != expected:
        raise ValueError(
            f"The packing describes one row of {expected} tokens, but attention got {query.shape[0]} rows of "
            f"{query.shape[2]}. Pass input_ids [1, tokens] together with the packing of the same batch."
        )
    # The CPU's bf16 attention kernel is about ten times slower backwards than its float32 one on rows of 10 to 60
    # tokens (31 against 3.4 ms for 64 rows of 14, 12 heads, torch 2.13), and no faster on rows of 512.
    upcast = query.device.type == "cpu" and query.requires_grad and query.dtype in (torch.bfloat16, torch.float16)
    with torch.autocast("cpu", enabled=False) if upcast else nullcontext():
        states = [state.float() if upcast else state for state in (query, key, value)]
        output = _attend_by_run(module, states, packing, sliding_window, kwargs)
    return output.to(query.dtype), None


def _attend_by_run(
    module: nn.Module, states: list[Tensor], packing: Packing, sliding_window: int | None, kwargs: dict
) -> Tensor:
    """Attend in each run of equally long rows: three `[1, heads, tokens, head_size]` -> `[1, tokens, heads, ...]`."""
    # torch.split, not slices, and squeeze(0), not [0]: the gradient of a slice is a tensor of the full size, zeroed.
    sizes = [*(rows * length for rows, length in packing.runs), packing.tail]
    *parts, tail = zip(*(state.squeeze(0).transpose(0, 1).split(sizes) for state in states), strict=True)
    outputs = []
    for (_, length), tokens in zip(packing.runs, parts, strict=True):
        query, key, value = (part.unflatten(0, (-1, length)).transpose(1, 2) for part in tokens)
        is_local = sliding_window is not None and length > sliding_window
        mask = _band(length, sliding_window, query.device) if is_local else None
        output, _ = sdpa_attention_forward(module, query, key, value, mask, **kwargs)
        outputs.append(output.flatten(0, 1))
    return torch.cat([*outputs, torch.zeros_like(tail[-1])])[None]


def _band(length: int, window: int, device: torch.device) -> Tensor:
    """`[1, 1, length, length]`, True where two places lie less than `window` apart."""
    place = torch.arange(length, device=device)
    return ((place[:, None] - place).abs() < window)[None, None]


AttentionInterface.register(IMPLEMENTATION, _packed_attention)
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)


def _packs_like_padded(encoder: PreTrainedModel) -> bool:
    """Compare the encoder's outputs for three short rows, packed and padded."""
    layout = TokenLayout.from_lengths([3, 3, 7], packed=True).to(encoder.device)
    embedding = encoder.get_input_embeddings()
    padding = embedding.padding_idx or 0
    vocabulary = torch.arange(min(embedding.num_embeddings, layout.tokens + 1), device=encoder.device)
    vocabulary = vocabulary[vocabulary != padding]
    token_ids = vocabulary[torch.arange(layout.tokens, device=encoder.device) % len(vocabulary)]
    packed = encoder(
        input_ids=token_ids[None],
        position_ids=(layout.positions + position_offset(encoder))[None],
        packing=Packing.from_layout(layout),
    ).last_hidden_state
    padded = encoder(input_ids=layout.pad(token_ids, padding), attention_mask=layout.mask.long()).last_hidden_state
    difference = (packed[0] - layout.unpad(padded)).abs().max()
    tolerance = 1e-5 if padded.dtype in (torch.float32, torch.float64) else 0.05
    return bool(difference <= tolerance * padded.abs().max())


@contextmanager
def _attending(model: PreTrainedModel, implementation: str) -> Iterator[None]:
    """Use an attention implementation for a while."""
    before = model.config._attn_implementation
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
