"""How transformers' models come to use the back ends.

transformers lets a model's attention be swapped by name (`AttentionInterface`) and hands it the keyword arguments of
the forward call. The attention that is registered here takes `packing=`, on models nobody had to patch.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .packing import Packing
from .runs import attend_in_runs
from .varlen import attend_by_varlen, can_use_varlen

# Takes packed and padded batches.
PACKED_OR_PADDED = "retort_packed_or_padded"

# Takes packed batches alone, and so makes no mask: ModernBERT's would be `[tokens, tokens]`.
PACKED = "retort_packed"


def packed_attention(
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
        query: `[1, heads, tokens, head_size]` when packed.
        key: likewise; perhaps of fewer heads, each of which serves several of the query's.
        value: as `key`.
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
    attend = attend_by_varlen if can_use_varlen(query, packing) else attend_in_runs
    return attend(module, (query, key, value), packing, sliding_window, kwargs), None


def _no_mask(*arguments, **named) -> None:
    return None


AttentionInterface.register(PACKED_OR_PADDED, packed_attention)
AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED_OR_PADDED, sdpa_mask)
AttentionMaskInterface.register(PACKED, _no_mask)


@contextmanager
def attending(model: PreTrainedModel, implementation: str = PACKED_OR_PADDED) -> Iterator[None]:
    """Use an attention implementation for a while, and then again the one that the model had."""
    before = model.config._attn_implementation
    model.config._attn_implementation = implementation
    try:
        yield
    finally:
        model.config._attn_implementation = before


@contextmanager
def packed_pass(model: PreTrainedModel) -> Iterator[None]:
    """Let a model take one packed batch, whatever attention it has.

    Raises:
        RuntimeError: activations are checkpointed: layers would be run again in the backward pass, after this context.
    """
    is_ready = model.config._attn_implementation in (PACKED, PACKED_OR_PADDED)
    if not is_ready and model.training and torch.is_grad_enabled() and model.is_activation_checkpointing:
        raise RuntimeError(
            "Activation checkpointing runs the layers of a packed batch again in the backward pass. Put both passes "
            "into `with attending(model):`, or call enable_packing(model)."
        )
    with attending(model, PACKED):
        yield
