"""The order of the training rows: random, with rows of similar length in one optimizer step."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import BatchRebalanceSampler


def row_lengths(dataset: Dataset) -> np.ndarray:
    """Tokens of each row, `[rows]`: the column `length`, or the lengths of `input_ids` where there is none.

    They are read as Arrow: row by row, ten million of them would take minutes.
    """
    has_lengths = "length" in dataset.column_names
    column = "length" if has_lengths else "input_ids"
    parts = dataset.select_columns(column).with_format("arrow").iter(batch_size=100_000)
    lengths = [part[column] if has_lengths else pc.list_value_length(part[column]) for part in parts]
    return np.concatenate([part.to_numpy() for part in lengths]) if lengths else np.array([], dtype=np.int64)


def check_longest(lengths: Sequence[int], tokens: int) -> None:
    """Refuse rows of `lengths` tokens, one of which doesn't fit into a batch of `tokens`.

    Raises:
        ValueError: such a row, by its number.
    """
    longest = int(np.argmax(lengths))
    if lengths[longest] > tokens:
        raise ValueError(
            f"Row {longest} has {lengths[longest]} tokens, more than a batch of {tokens} tokens (tokens_per_batch) "
            "holds. Raise tokens_per_batch, or cut rows with max_length=... in tokenize()."
        )


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


class TokenBudgetSampler(BatchRebalanceSampler):
    """Every row once per epoch, in optimizer steps of about as many tokens; the batches are those of one rank.

    The rows are sorted by length, longest first, equal ones in random order, and cut into steps of at most
    `tokens * accumulation * ranks` tokens; the last one, of the shortest rows, holds what is left. The sorted lengths
    are the same in every epoch, and so is the number of steps, by which `Trainer` counts epochs. The step with the
    longest rows comes first, the others in random order.

    Each step is cut into a micro-batch for each turn of accumulation and each rank: consecutive rows, of as equal a
    number of tokens as whole rows allow. Which rows make up a step depends on the budget of the whole step alone.

    Where what is left for the last step are fewer rows than micro-batches, it comes last and has as many micro-batches
    as all ranks can have; fewer rows than ranks are repeated.

    It is a `BatchRebalanceSampler` because `Trainer` takes no other sampler for one of whole batches, those of a single
    rank. Nothing of that class is used.

    Args:
        lengths: tokens of each row.
        tokens: of one micro-batch on one rank.
        seed: of the order; epoch `e` is drawn from `seed + e`.
        accumulation: micro-batches of a step on one rank.
        ranks: how many there are.
        rank: the one whose batches are given.
        drop_last: leave out a last step with fewer micro-batches than the others, unless there is no other.

    Raises:
        ValueError: no rows, or one that is longer than `tokens`.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        tokens: int,
        *,
        seed: int,
        accumulation: int = 1,
        ranks: int = 1,
        rank: int = 0,
        drop_last: bool = False,
    ):
        if len(lengths) == 0:
            raise ValueError("There are no rows to sample from: lengths is empty.")
        check_longest(lengths, tokens)
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self.seed, self.epoch = seed, 0
        self.accumulation, self.ranks, self.rank = accumulation, ranks, rank
        self._ends = _step_ends(-np.sort(-self.lengths), tokens * accumulation * ranks)
        # Micro-batches of the last step on a rank.
        self._last = max(1, min(accumulation, int(self._sizes[-1]) // ranks))
        if drop_last and self._last < accumulation and len(self._ends) > 1:
            self._ends, self._last = self._ends[:-1], accumulation

    @property
    def _sizes(self) -> np.ndarray:
        return np.diff(self._ends, prepend=0)

    @property
    def rows_per_step(self) -> int:
        """The mean, over all ranks."""
        return round(self._ends[-1] / len(self._ends))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return (len(self._ends) - 1) * self.accumulation + self._last

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        shuffled = torch.randperm(len(self.lengths), generator=generator).numpy()
        rows = shuffled[np.argsort(-self.lengths[shuffled], kind="stable")]
        whole = len(self._ends) - (self._last < self.accumulation)
        order = [0, *(1 + torch.randperm(whole - 1, generator=generator)).tolist()] if whole else []
        starts = self._ends - self._sizes
        for step in [*order, *range(whole, len(self._ends))]:
            batches = self.accumulation if step < whole else self._last
            parts = _in_equal_parts(rows[starts[step] : self._ends[step]], self.lengths, batches * self.ranks)
            yield from (part.tolist() for part in parts[self.rank :: self.ranks])


def _step_ends(lengths: np.ndarray, tokens: int) -> np.ndarray:
    """Where to cut rows of descending `lengths` into steps of at most `tokens`: `[steps]`, the place behind each step's
    last row. No row is longer than a micro-batch, so that each step but the last has a row for every micro-batch.
    """
    sums, ends = lengths.cumsum(), [0]
    while ends[-1] < len(lengths):
        before = sums[ends[-1] - 1] if ends[-1] else 0
        ends.append(int(sums.searchsorted(before + tokens, side="right")))
    return np.array(ends[1:])


def _in_equal_parts(rows: np.ndarray, lengths: np.ndarray, parts: int) -> list[np.ndarray]:
    """Consecutive parts of about as many tokens each, none of them empty: fewer rows than parts are repeated."""
    rows = rows if len(rows) >= parts else np.resize(rows, parts)
    sums = lengths[rows].cumsum()
    number = np.arange(1, parts)
    cuts = (sums - lengths[rows] / 2).searchsorted(sums[-1] * number / parts)
    cuts = np.maximum.accumulate(cuts - number) + number
    return np.split(rows, np.clip(cuts, number, len(rows) - parts + number))
