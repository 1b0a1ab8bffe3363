"""The back end `runs`: a loop over runs of equally long rows, the fastest one on a CPU.

Each run is viewed as `[rows, heads, length, head_size]`, so attention needs no mask, no padding and no copy.
"""

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from .packing import Packing


def attend_in_runs(
    module: nn.Module, states: tuple[Tensor, ...], packing: Packing, window: int | None, kwargs: dict
) -> Tensor:
    """Compute attention in each run of equally long rows.

    Args:
        module: the attention module that calls this function.
        states: query `[1, heads, tokens, head_size]`; key and value of the same shape, or with fewer heads.
        packing: the rows.
        window: tokens attend to tokens less than this many positions away; None for the whole row.
        kwargs: arguments for transformers' sdpa: scaling, dropout.

    Returns:
        `[1, tokens, heads, head_size]`.
    """
    query = states[0]
    # The backward pass of the CPU's bf16 attention kernel is about ten times slower than in float32 on rows of 10 to 60
    # tokens (31 against 3.4 ms for 64 rows of 14, 12 heads, torch 2.13), and no faster on rows of 512.
    upcast = query.device.type == "cpu" and query.requires_grad and query.dtype in (torch.bfloat16, torch.float16)
    with torch.autocast("cpu", enabled=False) if upcast else nullcontext():
        output = _attend(module, [s.float() if upcast else s for s in states], packing, window, kwargs)
    return output.to(query.dtype)


def _attend(module: nn.Module, states: list[Tensor], packing: Packing, window: int | None, kwargs: dict) -> Tensor:
    # torch.split and squeeze(0) instead of slices and [0]: the gradient of a slice is a zero tensor of the full size.
    sizes = [*(rows * length for rows, length in packing.runs), packing.tail]
    *parts, (tail, _, _) = zip(*(state.squeeze(0).transpose(0, 1).split(sizes) for state in states), strict=True)
    outputs = []
    for (_, length), tokens in zip(packing.runs, parts, strict=True):
        query, key, value = (part.unflatten(0, (-1, length)).transpose(1, 2) for part in tokens)
        mask = _band(length, window, query.device) if window is not None and length > window else None
        output, _ = sdpa_attention_forward(module, query, key, value, mask, **kwargs)
        outputs.append(output.flatten(0, 1))
    return torch.cat([*outputs, outputs[0].new_zeros(len(tail), *outputs[0].shape[1:])])[None]


def _band(length: int, window: int, device: torch.device) -> Tensor:
    """`[1, 1, length, length]`, True where two positions are less than `window` apart."""
    place = torch.arange(length, device=device)
    return ((place[:, None] - place).abs() < window)[None, None]
