"""Samplers in random order, with rows of similar length in each optimizer step."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import BatchRebalanceSampler

from ...collators import real_tokens
from ...data import arrow_parts


def row_lengths(dataset: Dataset) -> np.ndarray:
    """Number of tokens of each row without padding, `[rows]`.

    It is that of `input_ids` at the places of `attention_mask`; without a mask, the column `length` or the lengths of
    `input_ids`. The columns are read as Arrow, since reading ten million rows one by one takes minutes.
    """
    if "attention_mask" not in dataset.column_names and "length" in dataset.column_names:
        lengths = [part["length"].to_numpy() for _, part in arrow_parts(dataset, "length", size=100_000)]
    else:
        masks = {"attention_mask"} & {*dataset.column_names}
        parts = arrow_parts(dataset, "input_ids", *masks)
        lengths = [real_tokens(part["input_ids"], part.get("attention_mask"), start)[0] for start, part in parts]
    return np.concatenate(lengths) if lengths else np.array([], dtype=np.int64)


def check_longest(lengths: Sequence[int], tokens: int) -> None:
    """Refuse rows that don't fit into a batch of `tokens` tokens.

    Raises:
        ValueError: with the number of the longest row.
    """
    longest = int(np.argmax(lengths))
    if lengths[longest] > tokens:
        raise ValueError(
            f"Row {longest} has {lengths[longest]} tokens, more than a batch of {tokens} tokens (tokens_per_batch) "
            "holds. Raise tokens_per_batch, or truncate rows with max_length=... in tokenize()."
        )


class LengthGroupedSampler(Sampler[int]):
    """Samples every row once per epoch, in blocks of similarly long rows. Each optimizer step uses one block.

    The rows are shuffled, sorted by length within parts of `mega_batch` blocks, and split into blocks. Then the blocks
    are shuffled. The remaining rows (fewer than a block) are chosen at random and come last, so that each step is one
    block. The block with the longest row comes first, so a run that doesn't fit into memory fails at once.

    Within a block, rows are sorted by length. Micro-batches and ranks use consecutive slices of it, so their rows are
    of similar length, too. Steps of 64 rows, of 4 micro-batches of 16, and of 2 ranks with 32 each contain the same
    rows.

    The order only depends on `seed` and epoch. transformers' sampler of this name uses the global generator and has no
    `set_epoch`, so a run resumed in a later epoch would get the rows in another order.

    Args:
        lengths: number of tokens of each row.
        batch_size: rows of one optimizer step, over all micro-batches and ranks.
        seed: random seed; epoch `e` uses `seed + e`.
        mega_batch: number of blocks that are sorted together. More blocks make the rows of a step more equal in length,
            and the steps less random.

    Raises:
        ValueError: there are no rows, or a size is below 1.
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
    """Samples every row once per epoch, in optimizer steps of nearly equal numbers of tokens. Yields the batches of one
    rank.

    The rows are sorted by length, longest first; rows of equal length are in random order. They are cut into steps of
    at most `tokens * accumulation * ranks` tokens. The last step has the remaining, shortest rows. The number of steps
    is the same in every epoch, since `Trainer` counts epochs by it. The step with the longest rows comes first, the
    others in random order.

    Each step is split into `accumulation * ranks` micro-batches of consecutive rows, with numbers of tokens as equal as
    possible. The rows of a step only depend on the limit of the whole step.

    If the last step has fewer rows than micro-batches, it is sampled last, with as many micro-batches as all ranks can
    have. If it has fewer rows than ranks, rows are repeated.

    It inherits from `BatchRebalanceSampler` only because `Trainer` accepts no other sampler that yields the batches of
    a single rank. Nothing of that class is used.

    Args:
        lengths: number of tokens of each row.
        tokens: budget of one micro-batch on one rank. A step holds at most this times `accumulation * ranks`.
        seed: random seed; epoch `e` uses `seed + e`.
        accumulation: micro-batches of a step on one rank.
        ranks: number of ranks.
        rank: the rank whose batches are yielded.
        drop_last: leave out a last step with fewer micro-batches than the others, unless it is the only one.

    Raises:
        ValueError: there are no rows, or a row is longer than `tokens`.
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
        """Mean number of rows of a step, over all ranks."""
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
    """Cut rows of descending `lengths` into steps of at most `tokens` tokens. Returns the index after each step's last
    row, `[steps]`. No row is longer than a micro-batch, so every step except the last has a row for each micro-batch.
    """
    sums, ends = lengths.cumsum(), [0]
    while ends[-1] < len(lengths):
        before = sums[ends[-1] - 1] if ends[-1] else 0
        ends.append(int(sums.searchsorted(before + tokens, side="right")))
    return np.array(ends[1:])


def _in_equal_parts(rows: np.ndarray, lengths: np.ndarray, parts: int) -> list[np.ndarray]:
    """Split rows into consecutive parts of nearly equal numbers of tokens. Rows are repeated if there are too few."""
    rows = rows if len(rows) >= parts else np.resize(rows, parts)
    sums = lengths[rows].cumsum()
    number = np.arange(1, parts)
    cuts = (sums - lengths[rows] / 2).searchsorted(sums[-1] * number / parts)
    cuts = np.maximum.accumulate(cuts - number) + number
    return np.split(rows, np.clip(cuts, number, len(rows) - parts + number))
