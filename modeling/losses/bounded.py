"""A learnt number with bounds."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn


class BoundedNumber(nn.Module):
    """A learnt number above 0, stored as its logarithm.

    The trainer clamps it to its bounds after each step, as CLIP does with its scale (Radford et al. 2021,
    arXiv:2103.00020, section 2.5). A clamp in forward would have no gradient outside the bounds, so the number could
    not return. It must be excluded from weight decay, which would draw it to 1.

    Args:
        value: initial value, within `bounds`.

    Attributes:
        bounds: the lowest and the highest value.

    Raises:
        ValueError: the initial value is outside `bounds`.
    """

    bounds: ClassVar[tuple[float, float]]

    def __init__(self, value: float):
        super().__init__()
        lowest, highest = self.bounds
        if not lowest <= value <= highest:
            raise ValueError(f"{type(self).__name__} is learnt between {lowest} and {highest}, but starts at {value}.")
        # Shape [1], since ZeRO-3 can't shard a scalar.
        self.logarithm = nn.Parameter(torch.tensor([math.log(value)]))

    @property
    def value(self) -> Tensor:
        """`[1]`, float32."""
        return self.logarithm.float().exp()
