"""Reported as broken elsewhere, and right here: another batch on resuming, teachers in shards."""

import pytest
import tiny
import torch
from datasets import Dataset

from retort import DistillTrainer, tokenize


def trainer_of(tmp_path, teacher, rows, tokenizer, **settings):
    defaults = {
        "embedding_weight": 1.0,
        "max_steps": 4,
        "save_steps": 2,
        "disable_dropout": True,
        "learning_rate": 1e-3,
    }
    args = tiny.arguments(tmp_path, **defaults | {"learning_rate": 1e-3} | settings)
    return DistillTrainer(tiny.model(), teacher, args, train_dataset=rows, processing_class=tokenizer)


def test_a_run_resumed_in_smaller_micro_batches_goes_on_with_the_same_steps(tokenizer, tmp_path):
    """https://github.com/huggingface/transformers/issues/43708"""
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(32)}), tokenizer)
    whole = trainer_of(tmp_path, tiny.model(seed=1), rows, tokenizer)
    whole.train()
    halves = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    resumed = trainer_of(tmp_path / "other", tiny.model(seed=1), rows, tokenizer, **halves)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert resumed.state.global_step == 4
    untrained = dict(tiny.model().named_parameters())
    for (name, found), expected in zip(resumed.student.named_parameters(), whole.student.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
        assert name.startswith("pooler") or not torch.equal(found, untrained[name])


@pytest.mark.parametrize("size", ["20KB", "5GB"])
def test_a_teacher_in_half_precision_and_in_shards_is_the_teacher(size, tokenizer, tmp_path):
    """https://github.com/huggingface/transformers/issues/19301"""
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(16)}), tokenizer)
    teacher = tiny.model(seed=1).half()
    teacher.save_pretrained(tmp_path / "teacher", max_shard_size=size)
    assert (len(list((tmp_path / "teacher").glob("*.safetensors"))) > 1) == (size == "20KB")
    losses = []
    for source in (tmp_path / "teacher", teacher.float()):
        trainer = trainer_of(tmp_path / "run", source, rows, tokenizer, teacher_dtype="float32")
        losses.append(trainer.evaluate(rows)["eval_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
