"""Batches that don't fit into memory: the run starts over with smaller ones, as if it had begun with them."""

import pytest
import tiny
import torch
from datasets import Dataset

from retort import CKDTrainer, CKDTrainingArguments, DistillTrainer, DistillTrainingArguments, tokenize


def trained(folder, tokenizer, kind, fails_at=(), most=None, **arguments):
    """The weights of a run that is out of memory in the given steps, for batches of more tokens than `most`."""
    contrastive = kind is CKDTrainer
    settings = {"max_steps": 6, "save_strategy": "no", "learning_rate": 1e-2, "disable_dropout": False}
    settings |= {"queue_size": 20} if contrastive else {"embedding_weight": 1.0}
    args = tiny.arguments(
        folder, CKDTrainingArguments if contrastive else DistillTrainingArguments, **settings | arguments
    )
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(60)}), tokenizer)
    models = tiny.model("bert"), tiny.model("bert", seed=1, hidden=48)
    trainer = kind(*models, args, train_dataset=rows, processing_class=tokenizer)
    step, tried = trainer.training_step, []

    def step_in_little_memory(model, inputs, num_items_in_batch=None):
        loss = step(model, inputs, num_items_in_batch)
        if most is not None and inputs.layout.tokens > most and trainer.state.global_step in fails_at:
            tried.append(inputs.layout.tokens)
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return loss

    trainer.training_step = step_in_little_memory
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == trainer.state.global_step == 6
    queue = [] if getattr(trainer, "queue", None) is None else list(trainer.queue.state_dict().values())
    return trainer, [*trainer.model.state_dict().values(), *queue], tried


def equal(first, second):
    return all(map(torch.equal, first, second))


@pytest.mark.parametrize("fails_at", [[0], [2]])
def test_a_budget_of_tokens_is_halved_until_it_fits(fails_at, tokenizer, tmp_path):
    auto = {"auto_find_batch_size": True, "tokens_per_batch": 400}
    trainer, found, tried = trained(tmp_path / "auto", tokenizer, DistillTrainer, fails_at, most=120, **auto)
    assert len(tried) == 2
    assert trainer.state.train_batch_size == 100
    assert trainer.args.tokens_per_batch == 400
    _, expected, _ = trained(tmp_path / "set", tokenizer, DistillTrainer, tokens_per_batch=100)
    assert equal(found, expected)
    _, other, _ = trained(tmp_path / "other", tokenizer, DistillTrainer, tokens_per_batch=200)
    assert not equal(found, other)


@pytest.mark.parametrize("kind", [DistillTrainer, CKDTrainer])
def test_rows_of_a_batch_become_fewer_until_they_fit_and_nothing_is_left_of_the_steps_before(kind, tokenizer, tmp_path):
    auto = {"auto_find_batch_size": True, "per_device_train_batch_size": 6}
    trainer, found, tried = trained(tmp_path / "auto", tokenizer, kind, [0, 2], most=150, **auto)
    rows = trainer.state.train_batch_size
    assert tried
    assert 1 < rows < 6
    _, expected, _ = trained(tmp_path / "set", tokenizer, kind, per_device_train_batch_size=rows)
    assert equal(found, expected)


def test_a_row_that_does_not_fit_ends_the_run(tokenizer, tmp_path):
    auto = {"auto_find_batch_size": True, "tokens_per_batch": 100}
    with pytest.raises(
        ValueError, match=r"Out of memory with 50 tokens per batch, and half of that is less than the \d+"
    ):
        trained(tmp_path, tokenizer, DistillTrainer, range(6), most=0, **auto)


@pytest.mark.promise(2)
def test_a_resumed_run_goes_on_with_the_size_that_was_found(tokenizer, tmp_path):
    auto = {"auto_find_batch_size": True, "tokens_per_batch": 400, "save_strategy": "steps", "save_steps": 4}
    trainer, found, _ = trained(tmp_path, tokenizer, DistillTrainer, [0], most=120, **auto)
    rows = trainer.train_dataset
    args = tiny.arguments(
        tmp_path, max_steps=6, embedding_weight=1.0, learning_rate=1e-2, disable_dropout=False, **auto
    )
    models = tiny.model("bert", seed=5), tiny.model("bert", seed=1, hidden=48)
    resumed = DistillTrainer(*models, args, train_dataset=rows, processing_class=tokenizer)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert resumed.state.train_batch_size == 100
    assert equal(resumed.model.state_dict().values(), found)


@pytest.mark.promise(9)
def test_several_processes_are_refused_since_one_would_leave_the_others_waiting(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(DistillTrainingArguments, "world_size", 2)
    with pytest.raises(ValueError, match="auto_find_batch_size on 2 processes"):
        trained(tmp_path, tokenizer, DistillTrainer, auto_find_batch_size=True)


@pytest.mark.promise(9)
def test_an_optimizer_that_was_made_already_is_refused(tokenizer, tmp_path):
    student = tiny.model("bert")
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(10)}), tokenizer)
    args = tiny.arguments(tmp_path, embedding_weight=1.0, auto_find_batch_size=True)
    named = {"train_dataset": rows, "processing_class": tokenizer}
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="starts over with a new optimizer"):
        DistillTrainer(student, tiny.model("bert", seed=1), args, optimizers=(optimizer, None), **named)
