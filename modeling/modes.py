"""A model in eval mode, its parameters where ZeRO-3 or FSDP2 shards them, and an object with changed attributes."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


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
    """Gather the parameters that DeepSpeed ZeRO-3 has sharded, on every rank; does nothing if there are none."""
    sharded = [each for each in model.parameters() if hasattr(each, "ds_id")]
    if not sharded:
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(sharded)


def is_sharded(model: nn.Module) -> bool:
    """Whether a model's parameters are sharded over the ranks, by DeepSpeed ZeRO-3 or FSDP2."""
    return any(hasattr(each, "ds_id") or isinstance(each, DTensor) for each in model.parameters())


@contextmanager
def callable_in_parts(model: nn.Module) -> Iterator[None]:
    """Let parts of a model be called that FSDP2 has sharded: it gathers parameters for calls of the whole model and of
    its layers, but not for those of the student in it. All ranks must make the same calls. ZeRO-3 needs no such help.
    """
    if not isinstance(model, FSDPModule):
        yield
        return
    model.unshard()
    try:
        yield
    finally:
        model.reshard()


def shard_again(model: nn.Module) -> None:
    """Shard what FSDP2 leaves gathered after a forward pass that no backward pass has followed."""
    if isinstance(model, FSDPModule):
        model.reshard()


def share(tensor: Tensor, own: Tensor) -> Tensor:
    """What a rank holds of a whole tensor that every rank has: as `own`, its share if FSDP2 has sharded that."""
    if not isinstance(own, DTensor):
        return tensor
    return distribute_tensor(tensor.to(own.device), own.device_mesh, own.placements, src_data_rank=None)


def whole(tensor: Tensor) -> Tensor:
    """A tensor of a state dict with the values of all ranks, which FSDP2 may have sharded. All ranks must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


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
