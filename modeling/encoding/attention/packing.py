"""Packed batches: all rows of a batch concatenated to `[1, tokens]`, with attention only inside each row.

Embeddings, feed-forward layers and norms work token by token, so they need no rows and no padding. Only attention needs
the boundaries of the rows, which a `Packing` holds.

transformers' `DataCollatorWithFlattening` can't be used: bidirectional masks ignore its `position_ids`, so the
sentences of a batch would attend to each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..layout import TokenLayout
from ..tensor_group import TensorGroup

# Numbers of tokens are rounded up to a multiple of this. oneDNN builds a kernel for every shape of a matrix product and
# caches 1,024 of them, so fewer distinct shapes are better. For three layers in bfloat16, 100 steps of 64 rows on one
# core: 5 % less time, 14 % less memory.
GRANULE = 64


class UnreadyModelError(AttributeError):
    """A model used a `Packing` as if it were a mask tensor."""


@dataclass(frozen=True)
class Packing(TensorGroup):
    """The rows of a packed batch `[1, tokens]`, for `model(..., attention_mask=packing)`.

    It is passed as the attention mask, since like a mask it says which tokens attend to which. Every attention function
    reads its mask, so a model that doesn't support packed batches fails with an AttributeError instead of letting rows
    attend to each other. `runs` and `tail` are Python numbers, so no shape has to be read from the device.

    Attributes:
        runs: `(rows, length)` of each run of consecutive rows of equal length. The back end `runs` is faster with fewer
            runs, and rows sorted by length give the fewest.
        tail: number of tokens after the last row that belong to no row (see `rounded_up`). No row attends to them.
            `varlen` treats them as one more row; `runs` returns zeros for them.
        cumulative: `[rows + 1]`, int32, on the device: start of each row and end of the last one; the tail counts as a
            row. Only `varlen` reads it, and can't be used if it is None.
    """

    runs: tuple[tuple[int, int], ...]
    tail: int = 0
    cumulative: Tensor | None = field(default=None, compare=False)

    ndim: ClassVar[int] = 1  # transformers reads ndim and shape of every mask

    def __getattr__(self, name: str):
        raise UnreadyModelError(
            f"A packing has no {name}, which this model reads from its attention mask: it isn't ready for packed "
            "batches. Run it with retort's encode(), call enable_packing(model) first, or use padded batches "
            "(attention_backend='padded')."
        )

    @classmethod
    def from_layout(cls, layout: TokenLayout, *, cumulative: bool = True) -> Packing:
        """Make the packing of a layout.

        Args:
            layout: the rows, on the CPU. On another device this would synchronise with it.
            cumulative: also make the cumulative lengths that `varlen` needs.
        """
        lengths, rows = torch.unique_consecutive(layout.lengths, return_counts=True)
        runs = tuple(zip(rows.tolist(), lengths.tolist(), strict=True))
        return cls(runs, cumulative=F.pad(layout.lengths.cumsum(0), (1, 0)).int() if cumulative else None)

    @property
    def shape(self) -> tuple[int]:
        """Number of tokens, the tail included."""
        return (self.tokens + self.tail,)

    @property
    def tokens(self) -> int:
        """Number of tokens in all rows."""
        return sum(rows * length for rows, length in self.runs)

    @property
    def longest(self) -> int:
        """Length of the longest row, rounded up to a multiple of `GRANULE`, so that few distinct values occur."""
        longest = max(self.tail, *(length for _, length in self.runs))
        return longest + -longest % GRANULE


def rounded_up(inputs: dict[str, Any]) -> dict[str, Any]:
    """Add a tail to a packed batch that makes its number of tokens a multiple of `GRANULE`.

    Args:
        inputs: forward arguments: a `Packing` as the attention mask, and tensors `[1, tokens]`.

    Returns:
        The same, with zeros after the last row of each tensor. Rows don't attend to them, and `TokenLayout.flatten`
        removes them from the model's outputs.
    """
    packing = inputs["attention_mask"]
    tail = -packing.tokens % GRANULE
    if not tail:
        return inputs
    cumulative = packing.cumulative
    if cumulative is not None:
        # The kernel doesn't write tokens outside all rows, and uninitialised memory may be NaN: so the tail is a row.
        cumulative = F.pad(cumulative, (0, 1), value=packing.tokens + tail)
    tensors = {name: F.pad(tensor, (0, tail)) for name, tensor in inputs.items() if name != "attention_mask"}
    return tensors | {"attention_mask": replace(packing, tail=tail, cumulative=cumulative)}
