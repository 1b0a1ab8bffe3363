"""Context managers: a model in eval mode, its gathered parameters under DeepSpeed ZeRO-3, and changed attributes."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode, and restore the mode of each of its modules afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def gathered(model: nn.Module) -> AbstractContextManager:
    """Gather a model's sharded parameters on every rank; does nothing if no parameter is sharded."""
    if not is_sharded(model):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters([each for each in model.parameters() if hasattr(each, "ds_id")])


def is_sharded(model: nn.Module) -> bool:
    """Whether DeepSpeed ZeRO-3 shards a model's parameters over the ranks."""
    return any(hasattr(parameter, "ds_id") for parameter in model.parameters())


@contextmanager
def replaced(owner: Any, **values: Any) -> Iterator[None]:
    """Replace the values of an object's attributes, and restore them afterwards."""
    before = {name: getattr(owner, name) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)
