"""Packed batches: all rows of a batch as one row of `[1, tokens]`, with attention inside each row only.

Embeddings, feed-forward layers and norms work token by token, so they need no rows and no padding. Only attention
does, and it learns from a `Packing` where the rows lie.

transformers' `DataCollatorWithFlattening` is no substitute: bidirectional masks ignore its `position_ids`, and the
sentences of a batch attend to each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..layout import TokenLayout
from ..tensor_group import TensorGroup

# oneDNN makes a kernel for every shape of a matrix product and keeps 1,024 of them, so shapes should come back. For
# three layers in bfloat16, 100 steps of 64 rows on one core: 5 % less time, 14 % less memory.
GRANULE = 64


class UnreadyModelError(AttributeError):
    """A model took a `Packing` for the tensor that an attention mask otherwise is."""


@dataclass(frozen=True)
class Packing(TensorGroup):
    """How the tokens of a packed batch `[1, tokens]` fall into rows, for `model(..., attention_mask=packing)`.

    It takes the mask's place since it says what a mask says: which tokens see which. And since no attention ignores its
    mask, a model that wasn't made ready for packed batches fails (AttributeError), where its rows would else see each
    other. `runs` and `tail` are plain numbers: attention never waits for the device to learn a shape.

    Attributes:
        runs: `(rows, length)` of each run of neighbouring rows that are equally long. The back end `runs` is faster
            with fewer runs, and rows sorted by length give the fewest.
        tail: tokens behind the last row that belong to none (see `rounded_up`). No row sees them. `varlen` attends to
            them as to one more row; `runs` returns zeros for them.
        cumulative: `[rows + 1]`, int32: where each row begins, and where the last one ends; the tail counts as a row.
            `varlen` reads it on the device. None forbids `varlen`.
    """

    runs: tuple[tuple[int, int], ...]
    tail: int = 0
    cumulative: Tensor | None = field(default=None, compare=False)

    ndim: ClassVar[int] = 1  # which transformers asks of any mask, as it does for the shape

    def __getattr__(self, name: str):
        raise UnreadyModelError(
            f"A packing has no {name}, which this model looks for in an attention mask: it isn't ready for packed "
            "batches. Run it by retort's encode(), call enable_packing(model) before, or pad (attention_backend="
            "'padded')."
        )

    @classmethod
    def from_layout(cls, layout: TokenLayout, *, cumulative: bool = True) -> Packing:
        """Find the runs in a layout that lies on the CPU (elsewhere this would wait for the device).

        Args:
            layout: the rows.
            cumulative: also make what `varlen` needs.
        """
        lengths, rows = torch.unique_consecutive(layout.lengths, return_counts=True)
        runs = tuple(zip(rows.tolist(), lengths.tolist(), strict=True))
        return cls(runs, cumulative=F.pad(layout.lengths.cumsum(0), (1, 0)).int() if cumulative else None)

    @property
    def shape(self) -> tuple[int]:
        """Tokens, the tail included."""
        return (self.tokens + self.tail,)

    @property
    def tokens(self) -> int:
        """Number of tokens in all rows."""
        return sum(rows * length for rows, length in self.runs)

    @property
    def longest(self) -> int:
        """At least the length of the longest row, in tokens; a multiple of `GRANULE`, so that numbers come back."""
        longest = max(self.tail, *(length for _, length in self.runs))
        return longest + -longest % GRANULE


def rounded_up(inputs: dict[str, Any]) -> dict[str, Any]:
    """A packed batch with a tail that makes its tokens a multiple of `GRANULE`.

    Args:
        inputs: forward arguments: a `Packing` as the attention mask, and tensors `[1, tokens]`.

    Returns:
        The same, with zeros behind the last row of each tensor. Rows don't see them; `TokenLayout.flatten` cuts them
        off what the model returns.
    """
    packing = inputs["attention_mask"]
    tail = -packing.tokens % GRANULE
    if not tail:
        return inputs
    cumulative = packing.cumulative
    if cumulative is not None:
        # The kernel leaves tokens of no row unwritten, and what lies in memory there may be NaN: the tail is a row.
        cumulative = F.pad(cumulative, (0, 1), value=packing.tokens + tail)
    tensors = {name: F.pad(tensor, (0, tail)) for name, tensor in inputs.items() if name != "attention_mask"}
    return tensors | {"attention_mask": replace(packing, tail=tail, cumulative=cumulative)}
