"""Models whose parameters DeepSpeed ZeRO-3 has split over the ranks."""

from contextlib import AbstractContextManager, nullcontext

from torch import nn


def gathered(model: nn.Module) -> AbstractContextManager:
    """Hold the whole of a model's sharded parameters, on every rank; nothing where none is sharded."""
    sharded = [parameter for parameter in model.parameters() if hasattr(parameter, "ds_id")]
    if not sharded:
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(sharded)
