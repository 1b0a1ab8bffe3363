"""A Trainer that chooses the order of rows, and loads batches ahead."""

import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import datasets
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, SequentialSampler
from tqdm import tqdm

from ...collators import Batch, DistillationCollator, GroupCollator, SpanCollator, as_batch
from ...data import ArrowRows
from ...modeling import replaced
from .gradient_cache import RandomState
from .measured_trainer import MeasuredTrainer
from .sampler import LengthGroupedSampler, TokenBudgetSampler, row_lengths

logger = logging.getLogger(__name__)

# Default number of processes that make batches for a GPU. One is fast enough for most students; the second one helps
# with cached hidden states of a teacher.
_WORKERS = 2


class LoadingTrainer(MeasuredTrainer):
    """Samples rows of similar length for each step, by a number of rows or of tokens.

    Rows of a `datasets.Dataset` are read as slices of Arrow columns for retort's collators, and in the dataset's format
    for other collators. On a GPU, separate processes make the batches, and the next batch is copied to the device
    during the computation on the current one.

    With `auto_find_batch_size`, a run that is out of memory starts over with fewer rows per batch, or half the tokens.
    It ends with the same weights as a run that started with this size.
    """

    _token_batches: TokenBudgetSampler | None = None
    _ahead: tuple[Iterator, Iterator] | None = None  # iterator of an epoch, and the same with one batch held back

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        if self.args.auto_find_batch_size and self.args.tokens_per_batch:
            self._train_batch_size = self.args.tokens_per_batch  # saved in checkpoints, and read by resumed runs

    # --- Loading ------------------------------------------------------------------------------------------------------

    def _get_dataloader(self, dataset, *arguments, **named) -> DataLoader:
        if self.args.dataloader_num_workers is not None:
            return super()._get_dataloader(dataset, *arguments, **named)
        # A stream that isn't sharded would yield every row once per worker. A user's own dataset may have objects that
        # can't be passed to other processes.
        in_workers = self.args.device.type == "cuda" and isinstance(dataset, datasets.Dataset)
        with replaced(self.args, dataloader_num_workers=_WORKERS if in_workers else 0):
            return super()._get_dataloader(dataset, *arguments, **named)

    def _remove_unused_columns(self, dataset, description=None) -> datasets.Dataset | ArrowRows:
        rows = super()._remove_unused_columns(dataset, description)
        takes_arrays = isinstance(self.data_collator, DistillationCollator | GroupCollator | SpanCollator)
        return ArrowRows(rows) if takes_arrays and rows.format["type"] != "custom" else rows

    def next_batches(self, epoch_iterator: Iterator, count: int) -> list[Any]:
        """The next `count` batches of an epoch, or the remaining ones. The batch after them is already requested."""
        if self._ahead is None or self._ahead[0] is not epoch_iterator:
            self._ahead = epoch_iterator, _one_ahead(epoch_iterator)
        return list(islice(self._ahead[1], count))

    def sampled_batches(self, count: int, description: str) -> Iterator[Batch]:
        """Batches of `count` training rows, or of all, in an order that depends on the seed alone; on the device."""
        rows = self._remove_unused_columns(self.train_dataset, description=description)
        generator = torch.Generator().manual_seed(self.args.seed)
        chosen = torch.randperm(len(rows), generator=generator)[:count]
        batches = chosen.split(self.args.per_device_eval_batch_size)
        for indices in tqdm(batches, description, unit="batch", disable=self.args.disable_tqdm):
            yield as_batch(self.data_collator(rows.__getitems__(indices.tolist()))).to(self.args.device)

    # --- Out of memory ------------------------------------------------------------------------------------------------

    def train(self, *arguments, **named):
        """Train (see `Trainer.train`)."""
        self._at_start = None
        try:
            return super().train(*arguments, **named)
        finally:
            self._at_start = None

    def _inner_training_loop(self, batch_size=None, *arguments, **named):
        """The whole training. `Trainer` calls it again with a smaller batch if memory runs out."""
        if not self.args.auto_find_batch_size:
            return super()._inner_training_loop(batch_size, *arguments, **named)
        if self._at_start is None:
            self._at_start = RandomState(self.args.device), [_on_cpu(each.state_dict()) for each in self.learnt]
        else:
            batch_size = self._train_batch_size // 2 if self.args.tokens_per_batch else batch_size
            self._check_smaller_batch(batch_size)
            unit = "tokens" if self.args.tokens_per_batch else "rows"
            logger.warning("Out of memory. Starting over with %d %s per batch.", batch_size, unit)
            random, states = self._at_start
            for each, state in zip(self.learnt, states, strict=True):
                each.load_state_dict(state)
            self.optimizer = None
            self.reset_means()
            random.restore()
        return super()._inner_training_loop(batch_size, *arguments, **named)

    def _check_smaller_batch(self, size: int) -> None:
        """Refuse a batch of tokens that is too small for the longest row."""
        longest = int(row_lengths(self.train_dataset).max()) if self.args.tokens_per_batch else 0
        if size < longest:
            raise ValueError(
                f"Out of memory with {self._train_batch_size} tokens per batch, and half of that is less than the "
                f"{longest} tokens of the longest row. Truncate rows with max_length=... in tokenize()."
            )

    @property
    def learnt(self) -> list[Any]:
        """Objects that training changes. Each has `state_dict` and `load_state_dict`."""
        return [self.model, *filter(None, [self.accelerator.scaler])]  # there is a scaler with --fp16

    # --- The order of the rows ----------------------------------------------------------------------------------------

    def _get_train_sampler(self, train_dataset: datasets.Dataset | ArrowRows | None = None) -> Sampler | None:
        dataset, args = self.train_dataset if train_dataset is None else train_dataset, self.args
        dataset = dataset.dataset if isinstance(dataset, ArrowRows) else dataset
        if args.train_sampling_strategy != "group_by_length" or not isinstance(dataset, datasets.Dataset):
            return super()._get_train_sampler(train_dataset)
        seed, lengths = args.seed if args.data_seed is None else args.data_seed, row_lengths(dataset)
        if args.tokens_per_batch is None:
            rows = self._train_batch_size * args.gradient_accumulation_steps * args.world_size
            return LengthGroupedSampler(lengths, rows, seed=seed)
        self._token_batches = TokenBudgetSampler(
            lengths,
            self._train_batch_size if args.auto_find_batch_size else args.tokens_per_batch,
            seed=seed,
            accumulation=args.gradient_accumulation_steps,
            ranks=args.world_size,
            rank=args.process_index,
            drop_last=args.dataloader_drop_last,
        )
        return self._token_batches

    def _get_eval_sampler(self, eval_dataset: datasets.Dataset) -> Sampler | None:
        # Predictions must be in the order of the rows.
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None

    def get_total_train_batch_size(self, args) -> int:
        """Number of rows of a step, over all micro-batches and ranks (see `Trainer`). With `tokens_per_batch`, the mean
        number."""
        return self._token_batches.rows_per_step if self._token_batches else super().get_total_train_batch_size(args)

    def _run_epoch(self, *, epoch: int, train_dataloader, **arguments) -> None:
        # accelerate's set_epoch searches two nested samplers. A run that was resumed within an epoch on several ranks
        # has three (skip, shard, batch), so our sampler would not get the epoch.
        sampler = train_dataloader.batch_sampler
        while hasattr(sampler, "batch_sampler"):
            sampler = sampler.batch_sampler
        draws = getattr(sampler, "sampler", sampler)
        if hasattr(draws, "set_epoch"):
            draws.set_epoch(epoch)
        try:
            super()._run_epoch(epoch=epoch, train_dataloader=train_dataloader, **arguments)
        finally:
            self._ahead = None  # also ends the processes of an unfinished epoch


def _on_cpu(state: dict[str, Any]) -> dict[str, Any]:
    return {name: each.to("cpu", copy=True) if isinstance(each, Tensor) else each for name, each in state.items()}


def _one_ahead(batches: Iterable[Any]) -> Iterator[Any]:
    """Yield each batch once the next one is loaded."""
    held = []
    for batch in batches:
        yield from held
        held = [batch]
    yield from held
