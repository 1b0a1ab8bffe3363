"""How transformers' models come to use the back ends.

transformers lets a model's attention be swapped by name (`AttentionInterface`), together with the function that makes
its mask. What is registered here takes a `Packing` in the place of the mask, on models nobody had to patch. Any other
attention has no use for a `Packing`, and fails.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from .packing import Packing
from .runs import attend_in_runs
from .varlen import attend_by_varlen, can_use_varlen

PACKED = "retort_packed"
PADDED = "retort_padded"
PADDED_EAGER = "retort_padded_eager"


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Packing | Tensor | None,
    sliding_window: int | None = None,
    **kwargs,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention, inside each row of a packed batch if there is one.

    Args:
        module: the attention module that asks.
        query: `[1, heads, tokens, head_size]` when packed.
        key: likewise; perhaps of fewer heads, each of which serves several of the query's.
        value: as `key`.
        attention_mask: the rows of a packed batch; with any other mask this is `sdpa`.
        sliding_window: tokens see others less than this many places away (ModernBERT's local layers).
        **kwargs: whatever else the model passes on, for `sdpa`.

    Returns:
        `[1, tokens, heads, head_size]`, and no weights.
    """
    if not isinstance(attention_mask, Packing):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, sliding_window=sliding_window, **kwargs
        )
    packing = attention_mask
    if query.shape[0] != 1 or query.shape[2:3] != packing.shape:
        raise ValueError(
            f"The packing describes one row of {packing.shape[0]} tokens, but attention got {query.shape[0]} rows of "
            f"{query.shape[2]}. Pass input_ids [1, tokens] together with the packing of the same batch."
        )
    attend = attend_by_varlen if can_use_varlen(query, packing) else attend_in_runs
    return attend(module, (query, key, value), packing, sliding_window, kwargs), None


def packed_mask(*arguments, attention_mask: Packing | Tensor | None = None, **named) -> Packing | Tensor | None:
    """A packing as it is, whatever the layer's window; of padded rows the mask of `sdpa`."""
    if isinstance(attention_mask, Packing):
        return attention_mask
    return sdpa_mask(*arguments, attention_mask=attention_mask, **named)


def _made_always(mask: Callable[..., Tensor | None]) -> Callable[..., Tensor]:
    """A mask that is made whether there is padding or not: to ask that of a batch is to wait for the device."""
    return lambda *arguments, **named: mask(*arguments, **named | {"allow_is_bidirectional_skip": False})


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, packed_mask)
AttentionInterface.register(PADDED, sdpa_attention_forward)
AttentionMaskInterface.register(PADDED, _made_always(sdpa_mask))
AttentionMaskInterface.register(PADDED_EAGER, _made_always(eager_mask))


@contextmanager
def attending(model: PreTrainedModel, implementation: str = PACKED) -> Iterator[None]:
    """Let a model attend otherwise for a while, by default to packed batches, and then give it back what it had.

    With `PACKED`, padded batches are attended to by `sdpa` meanwhile.
    """
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
        ValueError: the model's attention can't be swapped.
        RuntimeError: activations are checkpointed: layers would be run again in the backward pass, after this context.
    """
    if not model._supports_attention_backend:
        raise ValueError(
            f"{type(model).__name__} can't take packed batches, since its attention can't be swapped. Use padded ones "
            "(attention_backend='padded')."
        )
    is_ready = model.config._attn_implementation == PACKED
    if not is_ready and model.training and torch.is_grad_enabled() and model.is_activation_checkpointing:
        raise RuntimeError(
            "Activation checkpointing runs the layers of a packed batch again in the backward pass. Put both passes "
            "into `with attending(model):`, or call enable_packing(model)."
        )
    with attending(model):
        yield


@contextmanager
def padded_pass(model: PreTrainedModel) -> Iterator[None]:
    """Let a model run a padded batch without waiting for the device.

    On a processor nothing is waited for, and `sdpa` is faster where it learns that there is no padding.
    """
    # Models whose attention isn't looked up by name (MPNet) have one of their own, and look up its mask alone.
    ways = {"sdpa": PADDED} if model._supports_attention_backend else {"eager": PADDED_EAGER}
    found = None if model.device.type == "cpu" else ways.get(model.config._attn_implementation)
    with attending(model, found) if found else nullcontext():
        yield
