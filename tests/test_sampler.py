"""The order of the rows: complete, seeded, grouped by length, and the same set per step however it is divided."""

import random
from itertools import chain

import datasets
import pytest
import torch
from accelerate.data_loader import prepare_data_loader, skip_first_batches
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from retort.trainers.steps import LengthGroupedSampler, row_lengths


class Numbers(Dataset):
    """Rows that are their own index."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return index


def random_lengths(count, seed=0):
    return torch.randint(3, 60, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def steps(lengths, micro_batch, accumulation, ranks, epoch):
    """The set of rows of every optimizer step, as accelerate deals the batches out."""
    step = micro_batch * accumulation * ranks
    seen = []
    for rank in range(ranks):
        sampler = LengthGroupedSampler(lengths, step, seed=1)
        loader = prepare_data_loader(
            DataLoader(Numbers(len(lengths)), micro_batch, sampler=sampler), num_processes=ranks, process_index=rank
        )
        loader.set_epoch(epoch)
        batches = [batch.tolist() for batch in loader]
        seen.append([list(chain(*batches[i : i + accumulation])) for i in range(0, len(batches), accumulation)])
    return [set().union(*shares) for shares in zip(*seen, strict=True)]


@settings(max_examples=50)
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=80),
    st.integers(1, 9),
    st.integers(1, 4),
    st.integers(0, 5),
)
def test_every_row_comes_once_and_only_the_last_block_is_short(lengths, batch_size, mega_batch, epoch):
    sampler = LengthGroupedSampler(lengths, batch_size, seed=3, mega_batch=mega_batch)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert len(sampler) == len(order)
    assert sorted(order) == list(range(len(lengths)))
    blocks = [[lengths[i] for i in order[a : a + batch_size]] for a in range(0, len(order), batch_size)]
    assert all(block == sorted(block) for block in blocks)
    full = [block for block in blocks if len(block) == batch_size]
    assert not full or max(full[0]) == max(map(max, full))


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else():
    lengths = random_lengths(300)

    def order(seed, epoch):
        sampler = LengthGroupedSampler(lengths, 16, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    first = order(5, 2)
    random.seed(9)
    torch.manual_seed(9)
    state = torch.get_rng_state()
    assert order(5, 2) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert len({tuple(order(*pair)) for pair in [(5, 2), (5, 3), (9, 2)]}) == 3


def test_blocks_hold_rows_of_similar_length():
    lengths = random_lengths(3000)
    order = list(LengthGroupedSampler(lengths, 32, seed=0))[: 3000 - 3000 % 32]
    tokens = torch.tensor(lengths)[torch.tensor(order)].view(-1, 32)
    padded = tokens.amax(1).sum() * 32
    assert tokens.sum() / padded > 0.95
    shuffled = torch.tensor(lengths)[torch.randperm(len(order), generator=torch.Generator().manual_seed(0))]
    assert shuffled.sum() / (shuffled.view(-1, 32).amax(1).sum() * 32) < 0.6


def test_blocks_of_different_length_are_mixed_over_the_epoch():
    lengths = random_lengths(3200)
    order = list(LengthGroupedSampler(lengths, 32, seed=0))
    means = torch.tensor(lengths, dtype=torch.float)[torch.tensor(order)].view(-1, 32).mean(1)
    halves = means[1:].split(len(means) // 2)
    assert abs(halves[0].mean() - halves[1].mean()) < 10
    assert means.diff().abs().mean() > 5


@pytest.mark.promise(3)
@pytest.mark.parametrize("epoch", [0, 3])
def test_a_step_holds_the_same_rows_however_it_is_divided(epoch):
    lengths = random_lengths(64 * 7)
    whole = steps(lengths, 64, 1, 1, epoch)
    assert len(whole) == 7
    assert steps(lengths, 16, 4, 1, epoch) == whole
    assert steps(lengths, 32, 1, 2, epoch) == whole
    assert steps(lengths, 8, 4, 2, epoch) == whole


def test_rows_left_over_do_not_shift_the_steps_before_them():
    lengths = random_lengths(64 * 3 + 21)
    whole = steps(lengths, 64, 1, 1, 0)
    assert list(map(len, whole)) == [64, 64, 64, 21]
    assert steps(lengths, 32, 1, 2, 0)[:3] == whole[:3]


@pytest.mark.promise(2)
def test_an_epoch_resumed_after_some_batches_goes_on_as_it_would_have():
    lengths = random_lengths(200)

    def loader():
        sampler = LengthGroupedSampler(lengths, 16, seed=4)
        made = prepare_data_loader(DataLoader(Numbers(200), 16, sampler=sampler), num_processes=1, process_index=0)
        made.set_epoch(2)
        return made

    expected = [batch.tolist() for batch in loader()][5:]
    resumed = skip_first_batches(loader(), 5)
    resumed.set_epoch(2)
    assert [batch.tolist() for batch in resumed] == expected


@pytest.mark.promise(9)
def test_impossible_sizes_are_errors():
    with pytest.raises(ValueError, match="lengths is empty"):
        LengthGroupedSampler([], 4, seed=0)
    with pytest.raises(ValueError, match="at least 1, but are 0 and 50"):
        LengthGroupedSampler([3], 0, seed=0)


@pytest.mark.parametrize("dropped", [[], ["length"]])
def test_lengths_are_those_of_the_rows_however_they_were_chosen(dropped):
    ids = [list(range(length)) for length in random_lengths(50)]
    rows = datasets.Dataset.from_dict({"input_ids": ids, "length": list(map(len, ids))}).remove_columns(dropped)
    chosen = datasets.concatenate_datasets([rows, rows]).shuffle(seed=0).select(range(3, 70)).with_format("numpy")
    assert row_lengths(chosen).tolist() == [len(row) for row in chosen["input_ids"]]
    assert row_lengths(rows.select([])).tolist() == []
