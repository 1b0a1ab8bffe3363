"""Base class of dataclasses that hold tensors."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, Self

import torch
from torch import Tensor


class TensorGroup:
    """Base of dataclasses whose fields are tensors, groups of tensors, dictionaries of these, or anything else.

    They can be moved to a device as tensors are. Fields that hold no tensors are left unchanged.
    """

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The same group with all tensors on a device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self, device: str | None = None) -> Self:
        """The same group with all tensors in pinned memory, for asynchronous copies to a GPU. `DataLoader` calls it."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(self, **{each.name: _changed(getattr(self, each.name), change) for each in fields(self)})


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, TensorGroup):
        return value._map(change)
    return {name: _changed(each, change) for name, each in value.items()} if isinstance(value, dict) else value
