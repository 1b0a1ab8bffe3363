"""No step of a run reads a number back from the device, for which it would have to wait."""

import pytest
import tiny
import torch
from datasets import Dataset
from torch.utils._python_dispatch import TorchDispatchMode

from retort import (
    CKDTrainer,
    CKDTrainingArguments,
    ContrastiveTrainer,
    ContrastiveTrainingArguments,
    DistillTrainer,
    MCLTrainer,
    MCLTrainingArguments,
    shrink,
)
from retort.data.tokenization import tokenize, tokenize_groups

# Of what these compute, the size or the value is known on the host only after the device has come so far; lift_fresh is
# `torch.tensor(number)`, whose copy to a GPU waits until it has been taken.
WAITING = {"lift_fresh", "_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_consecutive", "equal"}
ROWS = 8


class NoWaiting(TorchDispatchMode):
    """Raises where a step would wait for a GPU."""

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        name = function.overloadpacket.__name__
        waits = name in WAITING or (name == "repeat_interleave" and not (named or {}).get("output_size"))
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            waits = any(index is not None and index.dtype == torch.bool for index in arguments[1])
        if waits:
            raise AssertionError(f"{function} would wait for the device")
        return function(*arguments, **named or {})


def steps(trainer, count=2, micro_batches=2):
    """Optimizer steps as `Trainer` makes them, from batches that were collated before."""
    trainer.create_optimizer()
    parameters = list(trainer.model.parameters())
    for step in range(count):
        starts = range(step * ROWS * micro_batches, (step + 1) * ROWS * micro_batches, ROWS)
        rows = trainer._remove_unused_columns(trainer.train_dataset, description="training")
        made = [trainer.data_collator([rows[i] for i in range(start, start + ROWS)]) for start in starts]
        with NoWaiting():
            batches, counts = trainer.get_batch_samples(iter(made), micro_batches, trainer.args.device)
            for batch in batches:
                trainer.training_step(trainer.model, batch, counts)
            trainer._clip_grad_norm(trainer.model)
            trainer.optimizer.step()
        assert any(parameter.grad is not None for parameter in parameters)
        trainer.optimizer.zero_grad()


def texts(count=40, seed=0):
    return tiny.sentences(count, seed=seed)


@pytest.mark.parametrize("what", ["boolean index", "item", "nonzero", "a number as a tensor"])
def test_waiting_is_noticed(what):
    numbers = torch.arange(4)
    ways = {
        "boolean index": lambda: numbers[numbers > 1],
        "item": lambda: numbers[0].item(),
        "nonzero": numbers.nonzero,
        "a number as a tensor": lambda: torch.as_tensor(3, device=numbers.device),
    }
    with pytest.raises(AssertionError, match="would wait"), NoWaiting():
        ways[what]()


OBJECTIVES = {
    "embedding": {"embedding_weight": 1.0},
    "similarity": {"similarity_weight": 1.0, "embedding_weight": 1.0, "embedding_loss": "mse"},
    "hidden": {"hidden_weight": 1.0, "layer_map": "uniform"},
    "hidden, first": {"hidden_weight": 1.0, "hidden_tokens": "first", "hidden_loss": "cosine"},
    "hidden, mix": {"hidden_weight": 1.0, "layer_map": "mix"},
    "relations": {"relation_weight": 1.0, "relation_heads": 4},
}


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("cached", [False, True])
def test_distilling_an_encoder_never_waits(name, cached, tokenizer, tmp_path):
    teacher = tiny.model("bert", layers=4)
    rows = tokenize(Dataset.from_dict({"text": texts()}), tokenizer)
    cache = {"teacher_cache": str(tmp_path / "cache")} if cached else {}
    args = tiny.arguments(tmp_path / "run", **OBJECTIVES[name], **cache)
    student = shrink(teacher, layers=2)
    steps(DistillTrainer(student, teacher, args, train_dataset=rows, processing_class=tokenizer))


@pytest.mark.parametrize("logits_loss", ["kl", "mse", "hard"])
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_distilling_a_tagger_never_waits(logits_loss, family, tokenizer, tmp_path):
    teacher = tiny.model(family, "token", layers=4)
    words = [text.split() for text in texts()]
    labels = [[len(word) % 3 for word in row] for row in words]
    rows = tokenize(Dataset.from_dict({"words": words, "tags": labels}), tokenizer, words="words", labels="tags")
    weights = {"logits_weight": 1.0, "label_weight": 1.0, "hidden_weight": 1.0, "features_weight": 1.0}
    args = tiny.arguments(tmp_path, logits_loss=logits_loss, **weights)
    student = shrink(teacher, layers=2)
    steps(DistillTrainer(student, teacher, args, train_dataset=rows, processing_class=tokenizer))


def test_ckd_never_waits(tokenizer, tmp_path):
    teacher = tiny.model("bert", layers=4)
    rows = tokenize(Dataset.from_dict({"text": texts()}), tokenizer)
    settings = {"both_directions": True, "student_negatives": True, "learn_temperature": True, "queue_size": 24}
    for further in ({}, settings):
        args = tiny.arguments(tmp_path, CKDTrainingArguments, **further)
        student = shrink(teacher, layers=2)
        steps(CKDTrainer(student, teacher, args, train_dataset=rows, processing_class=tokenizer))


def test_contrastive_training_never_waits(tokenizer, tmp_path):
    columns = {"anchor": texts(), "positive": texts(seed=1), "negative": texts(seed=2)}
    rows = tokenize_groups(Dataset.from_dict(columns), tokenizer)
    args = tiny.arguments(tmp_path, ContrastiveTrainingArguments)
    steps(ContrastiveTrainer(tiny.model("bert"), None, args, train_dataset=rows, processing_class=tokenizer))


def test_mcl_never_waits(tokenizer, tmp_path):
    teacher = tiny.model("bert", layers=4)
    columns = {"source": texts(), "target": texts(seed=1)}
    rows = tokenize_groups(Dataset.from_dict(columns), tokenizer, teacher_tokenizer=tokenizer)
    args = tiny.arguments(tmp_path, MCLTrainingArguments)
    student = shrink(teacher, layers=2)
    steps(MCLTrainer(student, teacher, args, train_dataset=rows, processing_class=tokenizer))
