"""Registers the attention back ends with transformers.

transformers selects a model's attention function by name (`AttentionInterface`), together with the function that makes
its mask. The functions registered here take a `Packing` in place of the mask, without patching any model. All other
attention functions fail on a `Packing`.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from ...modes import replaced
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
    """Scaled dot-product attention inside each row of a packed batch. Padded batches are passed on to `sdpa`.

    Arguments and result are those of all attention functions of transformers. The `attention_mask` is the rows of a
    packed batch, or the mask of a padded one.
    """
    if not isinstance(attention_mask, Packing):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, sliding_window=sliding_window, **kwargs
        )
    packing = attention_mask
    if query.shape[0] != 1 or query.shape[2:3] != packing.shape:
        raise ValueError(
            f"The packing describes one row of {packing.shape[0]} tokens, but attention got {query.shape[0]} rows of "
            f"{query.shape[2]} tokens. Pass input_ids [1, tokens] together with the packing of the same batch."
        )
    attend = attend_by_varlen if can_use_varlen(query, packing) else attend_in_runs
    return attend(module, (query, key, value), packing, sliding_window, kwargs), None


def packed_mask(*arguments, attention_mask: Packing | Tensor | None = None, **named) -> Packing | Tensor | None:
    """Return a packing as it is, and make the mask of `sdpa` for padded rows."""
    if isinstance(attention_mask, Packing):
        return attention_mask
    return sdpa_mask(*arguments, attention_mask=attention_mask, **named)


def _without_padding_check(mask: Callable[..., Tensor | None]) -> Callable[..., Tensor]:
    """Make the mask in any case: checking whether a batch has padding would synchronise with the device."""
    return lambda *arguments, **named: mask(*arguments, **named | {"allow_is_bidirectional_skip": False})


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, packed_mask)
AttentionInterface.register(PADDED, sdpa_attention_forward)
AttentionMaskInterface.register(PADDED, _without_padding_check(sdpa_mask))
AttentionMaskInterface.register(PADDED_EAGER, _without_padding_check(eager_mask))


def attending(model: PreTrainedModel, implementation: str = PACKED) -> AbstractContextManager[None]:
    """Switch a model's attention implementation, by default to that of packed batches, and restore it afterwards.

    With `PACKED`, padded batches use `sdpa`.
    """
    return replaced(model.config, _attn_implementation=implementation)


@contextmanager
def packed_pass(model: PreTrainedModel) -> Iterator[None]:
    """Let a model take one packed batch, whatever its attention implementation.

    Raises:
        ValueError: the model's attention can't be swapped.
        RuntimeError: activation checkpointing would run the layers again in the backward pass, outside this context.
    """
    if not model._supports_attention_backend:
        raise ValueError(
            f"{type(model).__name__} can't take packed batches, since its attention can't be swapped. Use padded "
            "batches (attention_backend='padded')."
        )
    is_ready = model.config._attn_implementation == PACKED
    if not is_ready and model.training and torch.is_grad_enabled() and model.is_activation_checkpointing:
        raise RuntimeError(
            "Activation checkpointing runs the layers of a packed batch again in the backward pass. Run forward and "
            "backward passes inside `with attending(model):`, or call enable_packing(model)."
        )
    with attending(model):
        yield


@contextmanager
def padded_pass(model: PreTrainedModel) -> Iterator[None]:
    """Let a model run a padded batch without synchronising with the device.

    On a CPU there is no synchronisation, and `sdpa` is faster if it may check for padding, so nothing is changed.
    """
    # Models whose attention isn't selected by name (MPNet) still select the mask by name.
    ways = {"sdpa": PADDED} if model._supports_attention_backend else {"eager": PADDED_EAGER}
    found = None if model.device.type == "cpu" else ways.get(model.config._attn_implementation)
    with attending(model, found) if found else nullcontext():
        yield
