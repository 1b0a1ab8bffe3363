"""Dataclasses that hold tensors and travel with a batch."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Self

import torch
from torch import Tensor


class TensorGroup:
    """Base of dataclasses some of whose fields are tensors. Whoever moves a batch moves them as tensors are moved."""

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """With all tensors on a device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self, device: str | None = None) -> Self:
        """With all tensors in pinned memory, from which copies to a GPU don't wait. A `DataLoader` calls it."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return replace(self, **{name: change(value) for name, value in values.items() if isinstance(value, Tensor)})
