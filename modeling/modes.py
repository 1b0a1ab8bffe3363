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
    """Let the student in a sharded `DistillationModel` be called by itself.

    FSDP2 gathers parameters only for calls of the modules that it shards: the whole model, and each layer. All ranks
    must make the same calls. ZeRO-3 needs no such help.
    """
    if not isinstance(model, FSDPModule):
        yield
        return
    model.unshard()
    try:
        yield
    finally:
        reshard(model)


def reshard(model: nn.Module) -> None:
    """Shard what FSDP2 leaves gathered after a forward pass that no backward pass has followed."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def shard_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """This rank's shard of a tensor that every rank has whole, placed as `parameter` is.

    Returns the tensor itself if FSDP2 has not sharded that parameter.
    """
    if not isinstance(parameter, DTensor):
        return tensor
    mesh, placements = parameter.device_mesh, parameter.placements
    return distribute_tensor(tensor.to(parameter.device), mesh, placements, src_data_rank=None)


def unsharded(tensor: Tensor) -> Tensor:
    """A whole tensor of a state dict, gathered from all ranks if FSDP2 has sharded it. All ranks must call it."""
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
