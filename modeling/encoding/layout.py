"""The positions of a batch's tokens in padded, packed and flat tensors.

Every token-wise tensor is compared *flat*, ``[tokens, ...]``: the real tokens of all rows, concatenated without
padding. So padding can't change a loss, and losses need no mask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from .tensor_group import TensorGroup


@dataclass(frozen=True)
class TokenLayout(TensorGroup):
    """Maps a model's outputs, padded (`[rows, width, ...]`) or packed (`[1, tokens, ...]`), to the rows of a batch.

    Attributes:
        lengths: `[rows]`, number of tokens of each row, special tokens included.
        row_ids: `[tokens]`, the row of each token; ascending.
        positions: `[tokens]`, position of each token in its row, from 0.
        starts: `[rows]`, flat index of each row's first token.
        width: columns of a padded tensor, at least `lengths.max()`.
        packed: whether the model's tensors are `[1, tokens, ...]`.
    """

    lengths: Tensor
    row_ids: Tensor
    positions: Tensor
    starts: Tensor
    width: int
    packed: bool

    @classmethod
    def from_lengths(cls, lengths: list[int] | Tensor, *, packed: bool, width: int | None = None) -> TokenLayout:
        """The layout of rows with `lengths` tokens. `width` defaults to the longest row."""
        lengths = torch.as_tensor(lengths, dtype=torch.long)
        if lengths.numel() == 0 or int(lengths.min()) < 1:
            raise ValueError(f"Every row of a batch needs at least one token, but the lengths are {lengths.tolist()}.")
        longest = int(lengths.max())
        width = longest if width is None else width
        if width < longest:
            raise ValueError(f"A row of {longest} tokens does not fit into {width} columns.")
        starts = lengths.cumsum(0) - lengths
        row_ids = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        positions = torch.arange(len(row_ids)) - starts[row_ids]
        return cls(lengths, row_ids, positions, starts, width, packed)

    @classmethod
    def from_attention_mask(cls, attention_mask: Tensor) -> TokenLayout:
        """The layout of a right-padded batch with a `[rows, width]` mask of ones and zeros."""
        lengths = attention_mask.sum(1)
        layout = cls.from_lengths(lengths.cpu(), packed=False, width=attention_mask.shape[1])
        if not torch.equal(layout.mask.to(attention_mask.device), attention_mask.bool()):
            raise ValueError(
                "The attention mask is not right-padded (ones, then zeros, in every row). Set the tokenizer's "
                "padding_side='right'."
            )
        return layout.to(attention_mask.device)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        """Number of real tokens."""
        return len(self.row_ids)

    @property
    def slots(self) -> Tensor:
        """`[tokens]`, index of each token in a padded tensor whose first two dimensions are merged."""
        return self.row_ids * self.width + self.positions

    @property
    def mask(self) -> Tensor:
        """`[rows, width]`, True where a padded tensor holds a real token."""
        return torch.arange(self.width, device=self.lengths.device)[None] < self.lengths[:, None]

    def flatten(self, output: Tensor) -> Tensor:
        """The real tokens of a model's output, padded or packed, with or without a tail -> `[tokens, ...]`."""
        return output.squeeze(0)[: self.tokens] if self.packed else self.unpad(output)

    def unpad(self, padded: Tensor) -> Tensor:
        """`[rows, width, ...]` -> `[tokens, ...]`."""
        return padded.flatten(0, 1)[self.slots]

    def pad(self, flat: Tensor, value: float = 0) -> Tensor:
        """`[tokens, ...]` -> `[rows, width, ...]`, with `value` in the padding."""
        padded = flat.new_full((self.rows * self.width, *flat.shape[1:]), value)
        return padded.index_copy(0, self.slots, flat).unflatten(0, (self.rows, self.width))

    def put_back(self, output: Tensor, flat: Tensor) -> Tensor:
        """A padded or packed tensor whose real tokens are replaced by `flat`, `[tokens, ...]`."""
        return flat[None] if self.packed else output.flatten(0, 1).index_copy(0, self.slots, flat).view_as(output)

    def first(self, flat: Tensor) -> Tensor:
        """Each row's first token (`[CLS]`): `[tokens, ...]` -> `[rows, ...]`."""
        return flat[self.starts]

    def mean(self, flat: Tensor) -> Tensor:
        """Each row's mean over its tokens, summed in float32: `[tokens, hidden]` -> `[rows, hidden]`."""
        exact = flat.to(torch.promote_types(flat.dtype, torch.float32))
        total = exact.new_zeros(self.rows, flat.shape[-1]).index_add(0, self.row_ids, exact)
        return (total / self.lengths[:, None]).to(flat.dtype)


def most_positions(config: PreTrainedConfig) -> float:
    """The entry `max_position_embeddings` of a configuration, infinity if it has none. XLNet's is -1: no limit."""
    positions = getattr(config, "max_position_embeddings", None)
    return math.inf if positions is None or positions < 1 else positions
