"""Where a student has dropout: by default, where no teacher is compared with."""

import pytest
import tiny
import torch
from datasets import Dataset

from retort import (
    CKDTrainer,
    CKDTrainingArguments,
    ContrastiveTrainer,
    ContrastiveTrainingArguments,
    DistillTrainer,
    DistillTrainingArguments,
    tokenize,
)
from retort.data import tokenize_groups


def has_dropout(trainer):
    """Whether two passes in train mode differ, and whether attention's dropout is on."""
    trainer.model.train()
    batch = trainer.read_batch(trainer.data_collator([trainer.train_dataset[i] for i in range(4)]), training=True)
    with torch.no_grad():
        first, second = (trainer.model(batch.student, batch.layout) for _ in range(2))
    first, second = ((o.embedding if o.embedding is not None else o.logits) for o in (first.encoder, second.encoder))
    attention = trainer.student.base_model.encoder.layer[0].attention.self
    assert torch.equal(first, second) != attention.training
    return attention.training


def texts(tokenizer):
    return tokenize(Dataset.from_dict({"text": tiny.sentences(8), "y": [0] * 8}), tokenizer, labels="y")


def groups(tokenizer, columns):
    data = dict(zip(("anchor", "positive"), (tiny.sentences(8), tiny.sentences(8, seed=1)), strict=True))
    return tokenize_groups(Dataset.from_dict({name: data[name] for name in columns}), tokenizer)


def make_trainer(tmp_path, tokenizer, what, **settings):
    teacher = tiny.model("bert", layers=4)
    if what == "ckd":
        args, cls, rows = CKDTrainingArguments, CKDTrainer, texts(tokenizer)
        student = tiny.model("bert")
    elif what in ("single texts", "single texts and a teacher", "pairs"):
        args, cls = ContrastiveTrainingArguments, ContrastiveTrainer
        rows = groups(tokenizer, ("anchor", "positive") if what == "pairs" else ("anchor",))
        student = tiny.model("bert")
        if what.endswith("teacher"):
            settings = {"embedding_weight": 1.0} | settings
        else:
            teacher = None
    else:
        args, cls, rows = DistillTrainingArguments, DistillTrainer, texts(tokenizer)
        student, teacher = tiny.model("bert", "sequence"), tiny.model("bert", "sequence", layers=4)
        weights = {"labels": ["label"], "logits": ["logits"], "both": ["label", "logits"]}[what]
        settings = {f"{name}_weight": 1.0 for name in weights} | settings
    made = tiny.arguments(tmp_path, args, save_strategy="no", **settings)
    return cls(student, teacher, made, train_dataset=rows, processing_class=tokenizer)


@pytest.mark.parametrize(
    ("what", "settings", "expected"),
    [
        ("logits", {}, False),
        ("both", {}, False),
        ("ckd", {}, False),
        ("labels", {}, True),
        ("single texts", {}, True),
        ("single texts and a teacher", {}, True),
        ("pairs", {}, True),
        ("logits", {"disable_dropout": False}, True),
        ("ckd", {"disable_dropout": False}, True),
        ("labels", {"disable_dropout": True}, False),
        ("pairs", {"disable_dropout": True}, False),
        ("logits", {"gradient_checkpointing": True}, True),
    ],
)
def test_a_student_has_dropout_where_nothing_else_regularises(what, settings, expected, tokenizer, tmp_path):
    assert has_dropout(make_trainer(tmp_path, tokenizer, what, **settings)) is expected
