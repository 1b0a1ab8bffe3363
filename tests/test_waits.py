"""No step of a run reads a number back from the device, for which it would have to wait."""

import copy
from types import SimpleNamespace

import pytest
import tiny
import torch
from accelerate.utils import send_to_device
from datasets import Dataset
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from retort import (
    CKDTrainer,
    CKDTrainingArguments,
    ContrastiveTrainer,
    ContrastiveTrainingArguments,
    DistillTrainer,
    MCLTrainer,
    MCLTrainingArguments,
    VocabReducedMLMTrainer,
    VocabReducedMLMTrainingArguments,
    shrink,
)
from retort.data.tokenization import tokenize, tokenize_groups, tokenize_spans
from retort.modeling.architectures.bilstm import BiLstmConfig, BiLstmForTokenClassification, modeling_bilstm
from retort.trainers.teachers import LiveTeacher

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


def micro_batches(trainer, count, first=0):
    rows = trainer._remove_unused_columns(trainer.train_dataset, description="training")
    starts = range(first * ROWS, (first + count) * ROWS, ROWS)
    return [trainer.data_collator([rows[i] for i in range(start, start + ROWS)]) for start in starts]


def steps(trainer, count=2, each=2):
    """Optimizer steps as `Trainer` makes them, from batches that were collated before."""
    trainer.create_optimizer()
    parameters = list(trainer.model.parameters())
    for step in range(count):
        made = micro_batches(trainer, each, first=step * each)
        with NoWaiting():
            batches, counts = trainer.get_batch_samples(iter(made), each, trainer.args.device)
            for batch in batches:
                trainer.training_step(trainer.model, batch, counts)
            trainer._clip_grad_norm(trainer.model)
            trainer.optimizer.step()
        assert any(parameter.grad is not None for parameter in parameters)
        trainer.optimizer.zero_grad()
    steps_elsewhere(trainer, made)


def steps_elsewhere(trainer, made):
    """The same micro-batches on a device that isn't the host, where a tensor that was left behind is an error.

    It is torch's "meta", the only one that every machine has: there are shapes, but no numbers. So nothing can be read
    back from it, either.
    """
    elsewhere = torch.device("meta")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("autocast", "is_autocast_enabled", "get_autocast_dtype"):  # which know no such device
            patch.setattr(torch, name, _on_cpu(getattr(torch, name)))
        patch.setattr(torch, "get_device_module", lambda device: Elsewhere)
        trainer.model.to(elsewhere)
        if isinstance(trainer.teacher, LiveTeacher):
            trainer.teacher.encoders = trainer.teacher.models = [
                copy.deepcopy(model).to(elsewhere) for model in trainer.teacher.models
            ]
        patch.setattr(type(trainer.args), "device", elsewhere)
        patch.setattr(trainer.accelerator.state, "device", elsewhere)
        if getattr(trainer, "queue", None) is not None:
            trainer.queue = trainer._new_queue()
        batches, counts = trainer.get_batch_samples(iter(made), len(made), elsewhere)
        for batch in batches:
            assert trainer.training_step(trainer.model, batch, counts).device == elsewhere
        trainer._clip_grad_norm(trainer.model)
    assert any(parameter.grad is not None for parameter in trainer.model.parameters())


class Elsewhere:
    """What torch has a module for of each device."""

    get_rng_state, set_rng_state = torch.get_rng_state, torch.set_rng_state

    @staticmethod
    def get_device_properties(device):
        return SimpleNamespace(total_memory=2**33)


def _on_cpu(function):
    return lambda device_type=None, *arguments, **named: function("cpu", *arguments, **named)


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


@pytest.mark.parametrize(
    "family", ["bert", "modernbert", "distilbert", "xlm-roberta", "electra", "mpnet", "deberta-v2"]
)
def test_padded_batches_are_not_waited_for(family, tokenizer, tmp_path):
    teacher = tiny.model(family, layers=4)
    rows = tokenize(Dataset.from_dict({"text": texts()}), tokenizer)
    args = tiny.arguments(tmp_path, attention_backend="padded", hidden_weight=1.0)
    student = shrink(teacher, layers=2)
    trainer = DistillTrainer(student, teacher, args, train_dataset=rows, processing_class=tokenizer)
    steps_elsewhere(trainer, micro_batches(trainer, 2))


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


def test_learning_from_scores_never_waits(tokenizer, tmp_path):
    sizes, documents = [2 + row % 3 for row in range(len(texts()))], texts(seed=1)
    columns = {
        "query": texts(),
        "documents": [documents[:size] for size in sizes],
        "scores": [[0.9, 0.5, 0.2, 0.1][:size] for size in sizes],
    }
    rows = tokenize_groups(Dataset.from_dict(columns), tokenizer)
    settings = {"margin_weight": 1.0, "listwise_weight": 1.0, "contrastive_weight": 0.0, "score_activation": "sigmoid"}
    args = tiny.arguments(tmp_path, ContrastiveTrainingArguments, **settings)
    steps(ContrastiveTrainer(tiny.model("bert"), None, args, train_dataset=rows, processing_class=tokenizer))


def test_mcl_never_waits(tokenizer, tmp_path):
    teacher = tiny.model("bert", layers=4)
    columns = {"source": texts(), "target": texts(seed=1)}
    rows = tokenize_groups(Dataset.from_dict(columns), tokenizer, teacher_tokenizer=tokenizer)
    args = tiny.arguments(tmp_path, MCLTrainingArguments)
    student = shrink(teacher, layers=2)
    steps(MCLTrainer(student, teacher, args, train_dataset=rows, processing_class=tokenizer))


@pytest.mark.parametrize(
    "settings",
    [
        {"vocabulary_tokens": "hidden", "piece_logits": "sum"},
        {"vocabulary_loss": "match", "mask_smoothing": 0.7, "whole_words": True},
        {"hidden_weight": 1.0, "contrast_weight": 1.0, "unaligned_negatives": True, "negatives": "both"},
        {"contrast_weight": 1.0, "negative_count": 3, "contrast_space": "hyperbolic", "learn_curvature": True},
    ],
    ids=str,
)
def test_distilling_into_another_vocabulary_never_waits(settings, tokenizer, tmp_path):
    other = tiny.tokenizer("wordpiece, other words")
    teacher, student = tiny.model("bert", "masked_lm", layers=4), tiny.model("bert", "masked_lm", seed=1)
    data = Dataset.from_dict({"text": texts()})
    rows = tokenize_spans(data, tokenizer, teacher_tokenizer=other, max_length=64)
    weights = {"mlm_weight": 1.0, "vocabulary_weight": 1.0, "mask_share": 0.4}
    args = tiny.arguments(tmp_path, VocabReducedMLMTrainingArguments, **weights, **settings)
    named = {"processing_class": tokenizer, "teacher_processing_class": other}
    trainer = VocabReducedMLMTrainer(student, teacher, args, train_dataset=rows, **named)
    reading = trainer.read_batch

    def on_the_host(*arguments, **named):  # where masking draws (see the next test)
        with _disable_current_modes():
            return reading(*arguments, **named)

    trainer.read_batch = on_the_host
    steps(trainer)


@pytest.mark.parametrize("teacher_reads", ["all", "masked"])
def test_masking_reads_nothing_back_from_the_device_of_a_batch(teacher_reads, tokenizer, tmp_path):
    other = tiny.tokenizer("wordpiece, other words")
    teacher, student = tiny.model("bert", "masked_lm", layers=4), tiny.model("bert", "masked_lm", seed=1)
    data = Dataset.from_dict({"text": texts()})
    rows = tokenize_spans(data, tokenizer, teacher_tokenizer=other, max_length=64)
    args = tiny.arguments(tmp_path, VocabReducedMLMTrainingArguments, mask_share=0.4, teacher_reads=teacher_reads)
    named = {"processing_class": tokenizer, "teacher_processing_class": other}
    trainer = VocabReducedMLMTrainer(student, teacher, args, train_dataset=rows, **named)
    made = trainer.data_collator([rows[i] for i in range(ROWS)])
    here = trainer.read_batch(made, training=True)
    away = trainer.read_batch(send_to_device(made, "meta"), training=True)  # where there are no numbers to be read
    for name in ("hidden", "hidden_tokens", "hidden_pairs", "hidden_characters"):
        assert getattr(away, name).device.type == "meta"
        assert getattr(away, name).shape == getattr(here, name).shape
    assert len(here.hidden) > 0
    assert {inputs["input_ids"].device.type for inputs in (away.student, away.teacher)} == {"meta"}


def test_distilling_a_bilstm_never_waits(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(modeling_bilstm, "is_on_cpu", lambda tensor: False)
    words = [text.split() for text in texts()]
    labels = [[len(word) % 3 for word in row] for row in words]
    rows = tokenize(Dataset.from_dict({"words": words, "tags": labels}), tokenizer, words="words", labels="tags")
    sizes = {"vocab_size": tiny.VOCAB_SIZE, "embedding_size": 16, "lstm_hidden_size": 16, "hidden_size": 32}
    student = BiLstmForTokenClassification(BiLstmConfig(**sizes, num_hidden_layers=1, num_labels=3))
    args = tiny.arguments(tmp_path, logits_weight=1.0, label_weight=1.0)
    teacher = tiny.model("bert", "token", layers=4)
    steps(DistillTrainer(student, teacher, args, train_dataset=rows, processing_class=tokenizer))


def test_a_bilstm_refuses_a_mask_that_is_not_right_padded_without_waiting_for_it(monkeypatch):
    monkeypatch.setattr(modeling_bilstm, "is_on_cpu", lambda tensor: False)
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    with NoWaiting(), pytest.raises(RuntimeError, match="not right-padded"):
        modeling_bilstm.lengths_from_mask(mask)
