"""What users of transformers.Trainer do from habit."""

import json
from pathlib import Path

import pytest
import tiny
import torch
from datasets import Dataset
from torch.utils.data import IterableDataset
from transformers import EarlyStoppingCallback, TrainerCallback

from retort import (
    CKDTrainer,
    ContrastiveTrainer,
    ContrastiveTrainingArguments,
    DistillTrainer,
    DistillTrainingArguments,
    tokenize,
)


def trainer_of(folder, tokenizer, callbacks=(), **settings):
    data = tokenize(Dataset.from_dict({"text": tiny.sentences(24, seed=2)}), tokenizer)
    shared = {"embedding_weight": 1.0, "max_steps": 6, "save_strategy": "steps", "save_steps": 1}
    args = tiny.arguments(folder, DistillTrainingArguments, **shared | settings)
    named = {"train_dataset": data, "eval_dataset": data.select(range(8)), "callbacks": list(callbacks)}
    teacher = tiny.model("bert", layers=3, seed=1)
    return DistillTrainer(tiny.model("bert"), teacher, args, **named, processing_class=tokenizer)


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            control.should_training_stop = control.should_save = True


@pytest.mark.parametrize(
    ("metric", "greater"),
    [
        ("eval_loss_embedding", False),
        ("loss", False),
        ("eval_dev_loss_logits", False),
        ("eval_bits_per_character", False),
        ("alignment", False),
        ("eval_f1", True),
        ("eval_alignment_spearman", True),
        ("eval_lossless", True),
    ],
)
def test_of_losses_the_lowest_is_the_best(metric, greater, tmp_path):
    named = {"load_best_model_at_end": True, "eval_strategy": "steps", "save_strategy": "steps"}
    args = tiny.arguments(tmp_path, DistillTrainingArguments, metric_for_best_model=metric, **named)
    assert args.greater_is_better is greater
    chosen = tiny.arguments(tmp_path, DistillTrainingArguments, metric_for_best_model=metric, greater_is_better=True)
    assert chosen.greater_is_better


@pytest.mark.promise(2)
def test_a_run_that_a_callback_stopped_continues(tokenizer, tmp_path):
    trainer_of(tmp_path, tokenizer, [StopAt(2)]).train()
    resumed = trainer_of(tmp_path, tokenizer)
    resumed.train(resume_from_checkpoint=True)
    whole = trainer_of(tmp_path / "whole", tokenizer)
    whole.train()
    assert resumed.state.global_step == whole.state.global_step == 6
    pairs = zip(resumed.student.parameters(), whole.student.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


@pytest.mark.promise(2)
def test_a_run_that_ended_by_early_stopping_stays_ended_unless_its_state_is_left_out(tokenizer, tmp_path, capsys):
    selecting = {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True, "learning_rate": 0.0}

    def resumed(*callbacks, **settings):
        trainer = trainer_of(tmp_path, tokenizer, callbacks, **selecting | settings)
        trainer.train(resume_from_checkpoint=bool(list(tmp_path.glob("checkpoint-*"))))
        return trainer.state.global_step

    assert resumed(EarlyStoppingCallback(2)) == 3
    assert resumed(EarlyStoppingCallback(2)) == 3
    assert "Early stopping had ended this run." in capsys.readouterr().out
    assert resumed(EarlyStoppingCallback(2), restore_callback_states_from_checkpoint=False) == 5
    assert resumed() == 6


def test_the_checkpoints_of_an_earlier_run_are_removed_before_those_of_this_one(tokenizer, tmp_path):
    trainer_of(tmp_path, tokenizer, save_total_limit=2).train()
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-5", "checkpoint-6"}
    trainer_of(tmp_path, tokenizer, save_total_limit=2, max_steps=3).train()
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-3"}


def test_the_state_can_be_saved(tokenizer, tmp_path):
    trainer = trainer_of(tmp_path, tokenizer, max_steps=1)
    trainer.train()
    trainer.save_state()
    assert json.loads(Path(tmp_path, "trainer_state.json").read_text())["global_step"] == 1


def test_tokenised_rows_are_single_texts_for_contrast(tokenizer, tmp_path):
    data = tokenize(Dataset.from_dict({"text": tiny.sentences(8)}), tokenizer)

    def trainer(**settings):
        args = tiny.arguments(tmp_path, ContrastiveTrainingArguments, **settings)
        return ContrastiveTrainer(tiny.model("bert"), None, args, train_dataset=data, processing_class=tokenizer)

    with pytest.raises(ValueError, match="same text under another dropout"):
        trainer(disable_dropout=True)
    assert not trainer().args.disable_dropout


@pytest.mark.promise(9)
@pytest.mark.parametrize("which", ["train_dataset", "eval_dataset"])
def test_a_dataset_without_rows_is_refused_by_name(which, tokenizer, tmp_path):
    data = tokenize(Dataset.from_dict({"text": tiny.sentences(4)}), tokenizer)
    args = tiny.arguments(tmp_path, DistillTrainingArguments, embedding_weight=1.0)
    named = {"train_dataset": data, "processing_class": tokenizer} | {which: data.select([])}
    with pytest.raises(ValueError, match="rows: there are none"):
        DistillTrainer(tiny.model("bert"), tiny.model("bert", seed=1), args, **named)


@pytest.mark.promise(2)
def test_a_checkpoint_has_the_settings_of_the_run_that_wrote_it(tokenizer, tmp_path):
    trainer = trainer_of(tmp_path, tokenizer)
    trainer.train()
    trainer.args.weight_decay = 0.5
    trainer.train()
    again = trainer_of(tmp_path, tokenizer, weight_decay=0.5, max_steps=8)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 8


class Unsized(IterableDataset):
    """A stream that says it has no length as torch's DataPipes do."""

    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)

    def __len__(self):
        raise TypeError("no valid length")


def test_a_stream_whose_length_is_an_error_is_trained_on(tokenizer, tmp_path):
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(16)}), tokenizer).to_list()
    for kind in (DistillTrainer, CKDTrainer, ContrastiveTrainer):
        weight = {} if kind is ContrastiveTrainer else {"embedding_weight": 1.0}
        args = tiny.arguments(tmp_path, kind.arguments_class, max_steps=1, **weight)
        named = {"train_dataset": Unsized(rows), "processing_class": tokenizer}
        trainer = kind(tiny.model("bert"), tiny.model("bert", seed=1), args, **named)
        assert trainer.train().global_step == 1


@pytest.mark.promise(2)
@pytest.mark.parametrize("saves_its_own", [False, True])
def test_early_stopping_of_ones_own_stays_ended_too(tokenizer, tmp_path, saves_its_own):
    class Own(EarlyStoppingCallback):
        def state(self):
            return {"args": {"early_stopping_patience": 2}} if saves_its_own else super().state()

    selecting = {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True, "learning_rate": 0.0}
    trainer_of(tmp_path, tokenizer, [Own(2)], **selecting).train()
    resumed = trainer_of(tmp_path, tokenizer, [Own(2)], **selecting)
    resumed.train(resume_from_checkpoint=True)
    # Without the number of evaluations that it had waited, it counts anew.
    assert resumed.state.global_step == (5 if saves_its_own else 3)


def test_a_student_that_stays_as_it_is_is_warned_of(tokenizer, tmp_path, caplog):
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(16)}), tokenizer)
    args = tiny.arguments(tmp_path, DistillTrainingArguments, embedding_weight=1.0, max_steps=1)
    student, teacher = tiny.model("bert").requires_grad_(False), tiny.model("bert", hidden=48, seed=1)
    DistillTrainer(student, teacher, args, train_dataset=rows, processing_class=tokenizer)
    assert "All parameters of the student are frozen: only the objectives' projectors are trained." in caplog.text


def test_contrast_alone_decides_on_the_dropout_of_single_texts(tokenizer, tmp_path):
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(16)}), tokenizer)
    settings = {"contrastive_weight": 0.0, "embedding_weight": 1.0}
    args = tiny.arguments(tmp_path, ContrastiveTrainingArguments, **settings)
    named = {"train_dataset": rows, "processing_class": tokenizer}
    trainer = ContrastiveTrainer(tiny.model("bert"), tiny.model("bert", seed=1), args, **named)
    assert not trainer.trains_with_dropout(args, rows)
