"""A number that is learnt within bounds."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn


class BoundedNumber(nn.Module):
    """A learnt number above 0, kept as its logarithm.

    Its bounds are held by whoever trains it, after each step, as CLIP holds those of its scale (Radford et al. 2021,
    arXiv:2103.00020, section 2.5): a clamp in forward has no gradient outside, and a number that left its bounds would
    never come back. It is no weight, so weight decay, which would draw it to 1, is none of its business.

    Args:
        value: at the start, within `bounds`.

    Attributes:
        bounds: the lowest and the highest value.

    Raises:
        ValueError: a value outside.
    """

    bounds: ClassVar[tuple[float, float]]

    def __init__(self, value: float):
        super().__init__()
        lowest, highest = self.bounds
        if not lowest <= value <= highest:
            raise ValueError(f"{type(self).__name__} is learnt between {lowest} and {highest}, but starts at {value}.")
        # One number, but not a scalar, of which ZeRO-3 could not give each rank a share.
        self.logarithm = nn.Parameter(torch.tensor([math.log(value)]))

    @property
    def value(self) -> Tensor:
        """`[1]`, float32."""
        return self.logarithm.float().exp()

    @property
    def log_bounds(self) -> tuple[float, float]:
        """The lowest and the highest value of `logarithm`."""
        lowest, highest = self.bounds
        return math.log(lowest), math.log(highest)
