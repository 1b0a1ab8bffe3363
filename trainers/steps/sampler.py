"""The order of the training rows: random, with rows of similar length in one optimizer step."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import Sampler


def row_lengths(dataset: Dataset) -> np.ndarray:
    """Tokens of each row, `[rows]`: the column `length`, or the lengths of `input_ids` where there is none.

    They are read as Arrow: row by row, ten million of them would take minutes.
    """
    has_lengths = "length" in dataset.column_names
    column = "length" if has_lengths else "input_ids"
    parts = dataset.select_columns(column).with_format("arrow").iter(batch_size=100_000)
    lengths = [part[column] if has_lengths else pc.list_value_length(part[column]) for part in parts]
    return np.concatenate([part.to_numpy() for part in lengths]) if lengths else np.array([], dtype=np.int64)


class LengthGroupedSampler(Sampler[int]):
    """Every row once per epoch, in blocks of similarly long rows; a block is what one optimizer step sees.

    The rows are shuffled, sorted by length within each `mega_batch` blocks' worth of them, cut into blocks, and the
    blocks are shuffled. Rows left over (fewer than a block) are drawn at random and come last, so that blocks and
    steps stay in step with each other. The first block is the one with the longest row: what doesn't fit into memory
    fails at once.

    Inside a block rows ascend in length, so micro-batches and the shares of ranks, which are consecutive slices of
    it, are again of similar length. A step of 64 rows, of 4 micro-batches of 16, and of 2 ranks with 32 each holds
    the same rows.

    The order is a function of `seed` and epoch alone. transformers' sampler of this name draws from the global
    generator and has no `set_epoch`: a run resumed in a later epoch would see the rows in another order.

    Args:
        lengths: tokens of each row.
        batch_size: rows of one optimizer step, over all micro-batches and ranks.
        seed: of the order; epoch `e` is drawn from `seed + e`.
        mega_batch: blocks that are sorted together. More of them means rows of more equal length in a step, and steps
            that are less random.

    Raises:
        ValueError: no rows, or sizes below 1.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, *, seed: int, mega_batch: int = 50):
        if len(lengths) == 0:
            raise ValueError("There are no rows to sample from: lengths is empty.")
        if batch_size < 1 or mega_batch < 1:
            raise ValueError(f"batch_size and mega_batch must be at least 1, but are {batch_size} and {mega_batch}.")
        self.lengths = torch.as_tensor(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.mega_batch = mega_batch
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        shuffled = torch.randperm(len(self), generator=generator)
        whole = len(self) - len(self) % self.batch_size
        if whole:
            sorted_parts = map(self._by_length, shuffled[:whole].split(self.mega_batch * self.batch_size))
            blocks = torch.cat(list(sorted_parts)).view(-1, self.batch_size)
            blocks = blocks[torch.randperm(len(blocks), generator=generator)]
            longest = int(self.lengths[blocks].amax(1).argmax())
            blocks[[0, longest]] = blocks[[longest, 0]]
            for block in blocks:
                yield from block.tolist()
        yield from self._by_length(shuffled[whole:]).tolist()

    def _by_length(self, rows: Tensor) -> Tensor:
        return rows[self.lengths[rows].argsort(stable=True)]
