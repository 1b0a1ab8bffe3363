"""Batches of as many tokens: the same steps however they are divided, counted before training, resumed exactly."""

import json
import math
from itertools import chain

import jobs
import numpy as np
import pytest
import tiny
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from ranks import KILLED, run_on_ranks
from torch._dynamo.utils import counters
from torch.utils.data import Dataset as TorchDataset
from transformers import TrainerCallback

from retort import (
    CKDTrainer,
    CKDTrainingArguments,
    DistillTrainer,
    MCLTrainer,
    MCLTrainingArguments,
    VocabReducedMLMTrainer,
    VocabReducedMLMTrainingArguments,
    tokenize,
)
from retort.data import tokenize_groups, tokenize_spans
from retort.trainers.steps import TokenBudgetSampler, row_lengths


def sampled(lengths, tokens, epoch=0, accumulation=1, ranks=1, **settings):
    """The batches of each rank."""
    samplers = [
        TokenBudgetSampler(lengths, tokens, seed=1, accumulation=accumulation, ranks=ranks, rank=rank, **settings)
        for rank in range(ranks)
    ]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    batches = list(map(list, samplers))
    assert [len(each) for each in batches] == list(map(len, samplers))
    return batches


def steps(batches, accumulation):
    """The rows of each step."""
    starts = range(0, len(batches[0]), accumulation)
    return [list(chain(*chain(*(rank[start : start + accumulation] for rank in batches)))) for start in starts]


LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=150)


@settings(max_examples=150)
@given(LENGTHS, st.integers(50, 400), st.integers(0, 3), st.integers(1, 4), st.integers(1, 4))
def test_every_row_comes_once_in_steps_within_the_budget_and_no_batch_is_empty(lengths, tokens, epoch, turns, ranks):
    batches = sampled(lengths, tokens, epoch, turns, ranks)
    assert len({len(each) for each in batches}) == 1
    assert all(chain(*batches))
    made = steps(batches, turns)
    assert sorted(chain(*map(set, made))) == list(range(len(lengths)))
    # Ranks that fewer rows than there are of them are left for get one of these again, in one of the steps.
    repeating = [step for step in made if len(set(step)) < len(step)]
    assert len(repeating) <= 1
    assert all(len(step) == ranks for step in repeating)
    sums = [sum(lengths[row] for row in set(step)) for step in made]
    assert max(sums) <= tokens * turns * ranks
    # No fewer steps would do: any two that follow one another in length hold more than the budget of one.
    assert len(made) <= 2 * math.ceil(sum(lengths) / (tokens * turns * ranks))
    longest = [max(lengths[row] for row in step) for step in made]
    assert longest[0] == max(longest)


@settings(max_examples=60)
@given(LENGTHS, st.integers(50, 200), st.integers(1, 3), st.integers(1, 3))
def test_epochs_have_as_many_batches_and_orders_of_their_own(lengths, tokens, turns, ranks):
    first, second = (sampled(lengths, tokens, epoch, turns, ranks) for epoch in (0, 1))
    assert list(map(len, first)) == list(map(len, second))
    assert first == sampled(lengths, tokens, 0, turns, ranks)


@pytest.mark.promise(3)
@pytest.mark.parametrize("epoch", [0, 3])
def test_a_step_holds_the_same_rows_however_its_budget_is_divided(epoch):
    lengths = np.random.default_rng(0).integers(3, 60, 900)
    lengths[:20] = 240  # as long as a batch may be: a step may hold no more of them than it has micro-batches
    whole = [set(step) for step in steps(sampled(lengths, 1920, epoch), 1)]
    assert len(whole) > 10
    for tokens, turns, ranks in ((480, 4, 1), (960, 1, 2), (240, 4, 2)):
        assert [set(step) for step in steps(sampled(lengths, tokens, epoch, turns, ranks), turns)] == whole


def test_batches_are_of_nearly_as_many_tokens_and_of_similar_rows():
    lengths = np.random.default_rng(0).integers(3, 60, 20_000)
    tokens = [lengths[batch].sum() for (batch,) in zip(*sampled(lengths, 4096), strict=True)]
    assert sorted(tokens)[1] > 0.98 * 4096  # all but that of the rows that are left
    one, another = (sampled(lengths, 4096, epoch)[0] for epoch in (0, 1))
    assert [set(batch) for batch in one] != [set(batch) for batch in another]
    assert sorted(map(len, one)) == sorted(map(len, another))
    parts = [lengths[batch] for batch in chain(*sampled(lengths, 1024, accumulation=2, ranks=2))]
    assert sorted(abs(part.sum() - 1024) for part in parts)[-5] <= 60  # but for those of the last step
    assert sum(part.sum() for part in parts) / sum(part.max() * len(part) for part in parts) > 0.98


def test_a_last_step_that_is_too_short_can_be_left_out():
    lengths = [50] * 9  # a step of 8 micro-batches of one row, and one row left
    assert len(sampled(lengths, 50, accumulation=8)[0]) == 9
    (batches,) = sampled(lengths, 50, accumulation=8, drop_last=True)
    assert len(set(chain(*batches))) == len(batches) == 8


# --- Training ---------------------------------------------------------------------------------------------------------


class Watch(TrainerCallback):
    """Notes the progress after each step."""

    def __init__(self):
        self.epochs = []

    def on_step_end(self, args, state, control, **kwargs):
        self.epochs.append(state.epoch)


def trainer_of(folder, tokenizer, rows=None, **arguments):
    if rows is None:
        rows = tokenize(Dataset.from_dict({"text": tiny.sentences(90)}), tokenizer)
    settings = {"embedding_weight": 1.0, "save_strategy": "no", "tokens_per_batch": 64}
    args = tiny.arguments(folder, **settings | arguments)
    teacher = tiny.model("bert", seed=1)
    return DistillTrainer(tiny.model("bert"), teacher, args, train_dataset=rows, processing_class=tokenizer)


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("length", [{"num_train_epochs": 2.5}, {"max_steps": 7}])
def test_steps_and_epochs_are_known_before_training(accumulation, length, tokenizer, tmp_path):
    trainer = trainer_of(tmp_path, tokenizer, gradient_accumulation_steps=accumulation, **length)
    seen, collate = [], trainer.data_collator
    trainer.data_collator = lambda rows: (seen.append([len(row["input_ids"]) for row in rows]), collate(rows))[1]
    watch = Watch()
    trainer.add_callback(watch)
    trainer.train()
    lengths = trainer.train_dataset["length"]
    per_epoch = len(sampled(lengths, 64 * accumulation)[0])
    steps = length.get("max_steps") or math.ceil(2.5 * per_epoch)
    assert trainer.state.max_steps == trainer.state.global_step == len(watch.epochs) == steps
    assert watch.epochs == pytest.approx([(step + 1) / per_epoch for step in range(steps)])
    assert trainer.state.epoch == pytest.approx(steps / per_epoch)
    assert len({len(batch) for batch in seen}) > 1
    assert max(map(sum, seen)) <= 64 + max(lengths) * (accumulation > 1)
    if accumulation == 1 and length.get("num_train_epochs"):
        assert sorted(chain(*seen[:per_epoch])) == sorted(lengths)
        rate = trainer.state.log_history[-1]
        assert rate["train_samples_per_second"] / rate["train_steps_per_second"] == pytest.approx(
            90 * 2.5 / steps, rel=0.01
        )


def test_a_step_is_the_mean_over_its_rows_whatever_batches_they_come_in(tokenizer, tmp_path):
    def losses(name, tokens, accumulation):
        settings = {"tokens_per_batch": tokens, "gradient_accumulation_steps": accumulation, "max_steps": 5}
        trainer = trainer_of(tmp_path / name, tokenizer, learning_rate=1e-2, **settings)
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    assert losses("parts", 40, 4) == pytest.approx(losses("whole", 160, 1), abs=1e-5)


SIZES = {"num_train_epochs": 2, "save_steps": 3, "trainer": "distil"}


@pytest.mark.promise(2)
@pytest.mark.parametrize(("world", "zero"), [(1, 0), (2, 0), (2, 2)])
def test_killed_and_resumed_is_bitwise_the_uninterrupted_run(world, zero, tmp_path):
    common = {"folder": str(tmp_path), "zero": zero, "tokens_per_batch": 120, "gradient_accumulation_steps": 2} | SIZES
    assert run_on_ranks(jobs.distil, world, name="whole", **common) == [0] * world
    steps = len(json.loads((tmp_path / "whole.json").read_text()))
    assert steps % 2 == 0
    kill_at = steps // 2 + 2  # in the second epoch, between two checkpoints or after one
    assert KILLED in run_on_ranks(jobs.distil, world, name="killed", kill_at=kill_at + 1, **common)
    assert run_on_ranks(jobs.distil, world, name="killed", resume=True, **common) == [0] * world
    whole, resumed = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("whole", "killed"))
    assert whole.keys() == resumed.keys()
    assert [key for key in whole if not torch.equal(whole[key], resumed[key])] == []


def test_a_compiled_student_is_compiled_in_the_first_steps_alone(tokenizer, tmp_path):
    class Graphs(TrainerCallback):
        made = ()

        def on_step_end(self, args, state, control, **kwargs):
            self.made = (*self.made, counters["stats"]["unique_graphs"])

    graphs = Graphs()
    torch._dynamo.reset()
    counters.clear()
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(300)}), tokenizer)
    compiled = {"torch_compile": True, "torch_compile_backend": "eager", "num_train_epochs": 1}
    trainer = trainer_of(tmp_path, tokenizer, rows, tokens_per_batch=160, **compiled)
    trainer.add_callback(graphs)
    try:
        trainer.train()
    finally:
        torch._dynamo.reset()
    assert len(graphs.made) > 20
    assert 0 < graphs.made[2] == graphs.made[-1] <= 8


@pytest.mark.promise(3)
def test_one_budget_is_four_quarters_is_two_ranks_with_a_half(tmp_path):
    def curve(name, world, tokens, accumulation):
        sizes = {"tokens_per_batch": tokens, "gradient_accumulation_steps": accumulation, "max_steps": 7}
        common = {"save_strategy": "no", "dropout": 0.0, "trainer": "distil"} | sizes
        assert run_on_ranks(jobs.distil, world, folder=str(tmp_path), name=name, **common) == [0] * world
        return json.loads((tmp_path / f"{name}.json").read_text())

    reference = curve("one", 1, 320, 1)
    assert len(reference) == 7
    for other in (curve("four", 1, 80, 4), curve("two", 2, 160, 1), curve("both", 2, 40, 4)):
        assert other == pytest.approx(reference, abs=1e-5)


def test_groups_and_spans_are_divided_by_the_tokens_of_a_whole_row(tokenizer, tmp_path):
    texts = {side: tiny.sentences(40, seed=seed) for seed, side in enumerate(("source", "target"))}
    pairs = tokenize_groups(Dataset.from_dict(texts), tokenizer, teacher_tokenizer=tokenizer)
    args = tiny.arguments(
        tmp_path / "pairs", MCLTrainingArguments, mcl_weight=0.0, tokens_per_batch=96, max_steps=3, save_strategy="no"
    )
    models = tiny.model("bert"), tiny.model("bert", seed=1)
    trainer = MCLTrainer(*models, args, train_dataset=pairs, processing_class=tokenizer)
    for batch in trainer.get_train_dataloader():
        assert batch.layout.tokens <= 96
    trainer.train()
    rows = tokenize_spans(Dataset.from_dict({"text": tiny.sentences(40)}), tokenizer)
    args = tiny.arguments(
        tmp_path / "spans", VocabReducedMLMTrainingArguments, tokens_per_batch=96, max_steps=3, save_strategy="no",
        vocabulary_weight=0.0,
    )  # fmt: skip
    trainer = VocabReducedMLMTrainer(
        tiny.model("bert", "masked_lm"), None, args, train_dataset=rows, processing_class=tokenizer
    )
    assert all(batch.layout.tokens <= 96 for batch in trainer.get_train_dataloader())
    trainer.train()


# --- Refused ----------------------------------------------------------------------------------------------------------


class Rows(TorchDataset):
    """Rows that don't tell their lengths."""

    def __init__(self, rows):
        self.rows = list(rows)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def test_padding_does_not_count_as_tokens():
    ids = [[2, 5, 3, 0, 0], [0, 2, 5, 6, 3], [2, 3, 0, 0, 0]]
    rows = Dataset.from_dict({"input_ids": ids, "attention_mask": [[int(each > 0) for each in row] for row in ids]})
    assert row_lengths(rows).tolist() == [3, 4, 2]
    assert row_lengths(rows.add_column("length", [5, 5, 5])).tolist() == [3, 4, 2]
    assert row_lengths(rows.remove_columns("attention_mask")).tolist() == [5, 5, 5]


@pytest.mark.promise(9)
def test_rows_that_cannot_be_divided_by_tokens_are_refused(tokenizer, tmp_path):
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(10)}), tokenizer)
    longest = int(np.argmax(rows["length"]))
    with pytest.raises(ValueError, match=rf"Row {longest} has \d+ tokens, more than a batch of 4 tokens"):
        trainer_of(tmp_path, tokenizer, rows, tokens_per_batch=4)
    for other in (rows.to_iterable_dataset(), Rows(rows)):
        with pytest.raises(ValueError, match=f"train_dataset is a {type(other).__name__}"):
            trainer_of(tmp_path, tokenizer, other, max_steps=2)
    with pytest.raises(ValueError, match="tokens_per_batch=0: 1 or more"):
        trainer_of(tmp_path, tokenizer, rows, tokens_per_batch=0)
    with pytest.raises(ValueError, match="needs train_sampling_strategy='group_by_length', but got 'random'"):
        trainer_of(tmp_path, tokenizer, rows, train_sampling_strategy="random")


@pytest.mark.promise(9)
def test_objectives_that_compare_the_rows_of_a_step_are_refused(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="different numbers of rows, but similarity compares"):
        trainer_of(tmp_path, tokenizer, similarity_weight=1.0)
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(10)}), tokenizer)
    args = tiny.arguments(tmp_path, CKDTrainingArguments, tokens_per_batch=64)
    with pytest.raises(ValueError, match="different numbers of rows, but contrastive compares"):
        CKDTrainer(tiny.model("bert"), tiny.model("bert"), args, train_dataset=rows, processing_class=tokenizer)
