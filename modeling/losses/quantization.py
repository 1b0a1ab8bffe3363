"""Quantisation of embeddings as sentence-transformers' `quantize_embeddings` does it, with gradients.

Rounding has no gradient. It is passed straight through (Bengio et al. 2013, arXiv:1308.3432): the backward pass treats
a rounded value as the value before rounding.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BUCKETS = 255
# Share of the way that a range shrinks in a step towards the range of this step.
SHRINKING = 0.01


def binary_codes(embeddings: Tensor) -> Tensor:
    """The signs of embeddings `[..., dims]`, divided by the root of `dims`. Zero counts as negative.

    The cosine of two such vectors is 1 - 2 h / dims, if h of their bits differ (`precision="binary"` and `"ubinary"`).
    The scale gives them unit length, so that gradients are about as large as those of unit vectors.
    """
    signs = torch.where(embeddings > 0, 1.0, -1.0) / math.sqrt(embeddings.shape[-1])
    return _straight_through(embeddings, signs)


def cosines_of_signs(cosines: Tensor) -> Tensor:
    """What the cosine of two embeddings becomes, on average, when only the signs of their values are kept.

    It is exact for Gaussian embeddings with independent dimensions: 2 arcsin(cosine) / pi (Van Vleck's arcsine law;
    Charikar 2002 for random projections). Binary embeddings that keep the order of cosines have these cosines, which
    are smaller than those of the embeddings.
    """
    return torch.asin(cosines.clamp(-1, 1)) * (2 / math.pi)


def int8_codes(embeddings: Tensor, ranges: Tensor) -> Tensor:
    """The codes of embeddings `[..., dims]`, from -128 to 127 (`precision="int8"`).

    Args:
        embeddings: the vectors.
        ranges: `[2, dims]`, the minimum and maximum of each dimension. Values outside of it get the nearest code.
    """
    low, high = ranges
    step = (high - low) / BUCKETS
    position = (embeddings - low) / torch.where(step == 0, 1, step)
    return _straight_through(position, position.floor().clamp(0, BUCKETS)) - 128


def _straight_through(values: Tensor, rounded: Tensor) -> Tensor:
    return rounded.detach() + (values - values.detach())


class EmbeddingQuantizer(nn.Module):
    """Quantises a student's embeddings in training: `[rows, dims] -> [rows, dims]`, float32.

    For int8, it measures the range of each dimension. A step uses the ranges of the steps before it, so that they
    depend neither on micro-batches nor on ranks. Ranges widen at once to the values of a step and shrink slowly towards
    them, so that they forget the student of early steps. The first step measures the first ranges and quantises
    nothing. A step in which a dimension has NaN or infinity, as after an overflow of fp16, doesn't change its range.

    Args:
        precision: `"int8"` or `"binary"`.
        size: `dims`, the width of the embeddings.
        normalize: scale embeddings to unit length first, as the exported student does.

    Attributes:
        ranges: `[2, dims]`, minimum and maximum of each dimension, infinite before the first step; None for binary.
    """

    ranges: Tensor | None

    def __init__(self, precision: str, size: int, *, normalize: bool):
        super().__init__()
        self.precision, self.normalize = precision, normalize
        empty = torch.tensor([[torch.inf], [-torch.inf]]).repeat(1, size) if precision == "int8" else None
        self.register_buffer("ranges", empty)
        self._seen: Tensor | None = None  # ranges of the current step on this rank

    def forward(self, embeddings: Tensor) -> Tensor:
        embeddings = embeddings.float()
        if self.normalize:
            embeddings = F.normalize(embeddings, dim=-1)
        if self.ranges is None:
            return binary_codes(embeddings)
        if self.training:
            seen = torch.stack(embeddings.detach().aminmax(dim=0))
            self._seen = seen if self._seen is None else _union(self._seen, seen)
        ranges = self.ranges.float()
        measured = ranges[0] <= ranges[1]  # not yet in the first step
        codes = int8_codes(embeddings, torch.where(measured, ranges, 0.0))
        return torch.where(measured, codes, embeddings)

    def update(self, gather: Callable[[Tensor], Tensor]) -> None:
        """Update the ranges after an optimizer step. All ranks must call it.

        Args:
            gather: concatenates a tensor of all ranks along the first dimension.
        """
        if self._seen is None:
            return
        everywhere = gather(self._seen[None])
        seen = torch.stack([everywhere[:, 0].amin(0), everywhere[:, 1].amax(0)])
        self._seen = None
        first = self.ranges[0] > self.ranges[1]
        shrunk = torch.lerp(torch.where(first, seen, self.ranges.float()), seen, SHRINKING)
        finite = seen.isfinite().all(0)  # not after an overflow of fp16
        self.ranges.copy_(torch.where(finite, _union(shrunk, seen), self.ranges))


def _union(first: Tensor, second: Tensor) -> Tensor:
    """The smallest ranges that contain both, `[2, dims]`."""
    return torch.stack([torch.minimum(first[0], second[0]), torch.maximum(first[1], second[1])])
