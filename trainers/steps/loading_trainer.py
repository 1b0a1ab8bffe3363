"""A Trainer with its own samplers."""

import datasets
from torch.utils.data import Sampler, SequentialSampler

from .measured_trainer import MeasuredTrainer
from .sampler import LengthGroupedSampler, TokenBudgetSampler, row_lengths


class LoadingTrainer(MeasuredTrainer):
    """Samples training rows of similar length for each step, by a number of rows or of tokens."""

    _token_batches: TokenBudgetSampler | None = None

    def _get_train_sampler(self, train_dataset: datasets.Dataset | None = None) -> Sampler | None:
        dataset, args = self.train_dataset if train_dataset is None else train_dataset, self.args
        if args.train_sampling_strategy != "group_by_length" or not isinstance(dataset, datasets.Dataset):
            return super()._get_train_sampler(train_dataset)
        seed, lengths = args.seed if args.data_seed is None else args.data_seed, row_lengths(dataset)
        if args.tokens_per_batch is None:
            return LengthGroupedSampler(lengths, args.rows_per_step, seed=seed)
        self._token_batches = TokenBudgetSampler(
            lengths,
            args.tokens_per_batch,
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
        """Number of rows of a step, over all micro-batches and ranks (see `Trainer`); the mean with
        `tokens_per_batch`."""
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
        super()._run_epoch(epoch=epoch, train_dataloader=train_dataloader, **arguments)
