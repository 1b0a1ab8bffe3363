"""The back end `varlen`: one call of torch's flash attention for rows of any length, on NVIDIA GPUs only."""

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import PretrainedConfig

from .packing import Packing

_HALF = (torch.bfloat16, torch.float16)

_LARGEST_HEAD = 256


def varlen_obstacle(config: PretrainedConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why a model with attention in `dtype` can't use `varlen`; None if it can."""
    if device.type != "cuda" or torch.version.cuda is None:
        return f"varlen needs an NVIDIA GPU, and the device is {device.type}"
    if dtype not in _HALF:
        return f"varlen computes in bf16 or fp16, but the run computes in {str(dtype).removeprefix('torch.')}"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return f"varlen needs compute capability 8.0, and {torch.cuda.get_device_name(device)} has less"
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if size % 8 or size > _LARGEST_HEAD:
        return f"varlen needs a head size that is a multiple of 8 up to {_LARGEST_HEAD}, and the head size is {size}"
    return None


def can_use_varlen(query: Tensor, packing: Packing) -> bool:
    """Whether `varlen` can compute attention of these tensors. Calls in float32 outside autocast use `runs`."""
    return packing.cumulative is not None and query.is_cuda and _dtype_of(query) in _HALF


def attend_by_varlen(
    module: nn.Module, states: tuple[Tensor, ...], packing: Packing, window: int | None, kwargs: dict
) -> Tensor:
    """Compute attention in all rows by one kernel, without dropout of attention weights.

    Arguments and result are those of `attend_in_runs`. Of `kwargs`, only `scaling` of the scores is read; default:
    1 / sqrt(head_size).
    """
    dtype = _dtype_of(states[0])
    query, key, value = (state.squeeze(0).transpose(0, 1).to(dtype) for state in states)
    options = {"scale": kwargs.get("scaling"), "enable_gqa": key.shape[1] != query.shape[1]}
    if window is not None:
        options["window_size"] = (window - 1, window - 1)  # flash attention's bounds are inclusive
    rows, longest = packing.cumulative, packing.longest
    output = varlen_attn(query, key, value, rows, rows, longest, longest, **options)
    return output[None].to(states[0].dtype)


def _dtype_of(query: Tensor) -> torch.dtype:
    """The dtype in which attention is computed: that of autocast for a float32 tensor, otherwise the tensor's."""
    device = query.device.type
    is_cast = query.dtype == torch.float32 and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if is_cast else query.dtype
