"""Activation checkpointing changes neither a loss nor a gradient, whatever is compared; or the run is refused."""

import pytest
import tiny
import torch
from datasets import Dataset
from transformers import AlbertConfig, AlbertForTokenClassification

from retort import DistillTrainer, shrink
from retort.data import tokenize
from retort.modeling import bilstm_student
from retort.modeling.encoding import OutputRequest, TokenLayout, encode

KINDS = {"not reentrant": {"use_reentrant": False}, "reentrant": {"use_reentrant": True}}
FAMILIES = ("bert", "xlm-roberta", "distilbert", "modernbert", "deberta-v2", "recurrent")
# What each objective reads of the student, one for each kind of output.
OBJECTIVES = {
    "logits": {"logits_weight": 1.0},
    "features": {"features_weight": 1.0},
    "embedding": {"embedding_weight": 1.0},
    "hidden states": {"hidden_weight": 1.0, "layer_map": "uniform"},
    "projections": {"relation_weight": 1.0, "relation_map": "1:1", "relation_heads": 4},
    "attentions": {"attention_weight": 1.0, "layer_map": "1:1"},
}
NO_DROPOUT = {
    "distilbert": {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0},
    "modernbert": {"attention_dropout": 0.0, "mlp_dropout": 0.0, "embedding_dropout": 0.0, "classifier_dropout": 0.0},
}
BERTS = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def model(family, seed, task="token", eager=False):
    settings = NO_DROPOUT.get(family, BERTS) | ({"attn_implementation": "eager"} if eager else {})
    if family == "recurrent":
        made = shrink(tiny.model("bert", task, seed=seed, layers=2, **BERTS), layers=2, recurrent_steps=2)
        made.set_attn_implementation("eager" if eager else "sdpa")
        return made
    return tiny.model(family, task, seed=seed, layers=3, **settings)


@pytest.fixture(scope="module")
def rows():
    return tokenize(Dataset.from_dict({"text": tiny.sentences(8)}), tiny.tokenizer())


def step(folder, rows, student, teacher, **settings):
    """The loss of one step of a run, and by how much each weight fell: SGD by 1 takes off its gradient."""
    before = {name: weight.detach().clone() for name, weight in student.named_parameters()}
    sgd = {"optim": "sgd", "learning_rate": 1.0, "lr_scheduler_type": "constant", "max_grad_norm": 0.0, "max_steps": 1}
    args = tiny.arguments(folder, save_strategy="no", disable_dropout=None, **sgd | settings)
    trainer = DistillTrainer(student, teacher, args, train_dataset=rows, processing_class=tiny.tokenizer())
    trainer.train()
    gradients = {name: before[name] - weight.detach() for name, weight in student.named_parameters()}
    return trainer.state.log_history[0]["loss"], gradients, trainer.data_collator.student.packed


def with_and_without(folder, rows, family, objective, backend, *kinds):
    """What `step` gives without checkpointing, and then with each kind of it."""
    for kind in ({}, *({"activation_checkpointing_kwargs": KINDS[kind]} for kind in kinds)):
        sides = [model(family, seed, eager=objective == "attentions") for seed in (0, 1)]
        settings = {"attention_backend": backend, "activation_checkpointing": bool(kind)}
        yield step(folder, rows, *sides, **OBJECTIVES[objective] | settings | kind)


def is_refused(family, objective, kind):
    return kind == "reentrant" and (objective in ("projections", "attentions") or family == "deberta-v2")


@pytest.fixture(autouse=True)
def without_a_collection_before_each_run(monkeypatch):
    """accelerate goes through all that the process holds before every run, which takes longer than the run."""
    monkeypatch.setattr("gc.collect", lambda *_: 0)


@pytest.mark.parametrize(
    ("family", "objective", "backend"),
    [
        (family, objective, backend)
        for family in FAMILIES
        for objective in OBJECTIVES
        for backend in ("padded", "runs")
        if backend == "padded" or (family != "deberta-v2" and objective != "attentions")
    ],
)
def test_loss_and_gradient_are_those_without_checkpointing(family, objective, backend, rows, tmp_path):
    kinds = [kind for kind in KINDS if not is_refused(family, objective, kind)]
    runs = with_and_without(tmp_path, rows, family, objective, backend, *kinds)
    loss, expected, packed = next(runs)
    assert packed is (backend == "runs")
    assert loss > 0
    assert any(gradient.any() for gradient in expected.values())
    for found_loss, found, _ in runs:
        assert found_loss == loss
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("objective", "name"), [("projections", "relation_weight"), ("attentions", "attention_weight")]
)
def test_what_is_made_within_a_layer_is_refused_under_reentrant_checkpointing(objective, name, rows, tmp_path):
    run = with_and_without(tmp_path, rows, "bert", objective, "padded", "reentrant")
    next(run)
    with pytest.raises(ValueError, match=f"{name} .*use_reentrant': False"):
        next(run)


@pytest.mark.promise(9)
def test_deberta_is_refused_under_reentrant_checkpointing(rows, tmp_path):
    run = with_and_without(tmp_path, rows, "deberta-v2", "embedding", "padded", "reentrant")
    next(run)
    with pytest.raises(ValueError, match=r"relative positions.*use_reentrant': False"):
        next(run)


@pytest.mark.promise(9)
@pytest.mark.parametrize("student", ["albert", "bilstm"])
def test_a_student_that_cannot_run_its_layers_again_is_refused(student, rows, tmp_path):
    if student == "albert":
        sizes = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, "embedding_size": 16}
        made = AlbertForTokenClassification(AlbertConfig(vocab_size=tiny.VOCAB_SIZE, **sizes))
    else:
        made = bilstm_student(model("bert", 1), embedding_size=16, lstm_hidden_size=16)
    with pytest.raises(ValueError, match=r"not support activation checkpointing.*Leave activation_checkpointing out"):
        step(tmp_path, rows, made, model("bert", 1), logits_weight=1.0, activation_checkpointing=True)


@pytest.mark.promise(9)
def test_outputs_without_a_gradient_are_refused_where_no_trainer_checks_them():
    student = model("bert", 0).train()
    student.activation_checkpointing_enable({"use_reentrant": True})
    layout = TokenLayout.from_lengths([5, 3], packed=False)
    inputs = {"input_ids": layout.pad(torch.arange(8, 16)), "attention_mask": layout.mask.long()}
    request = OutputRequest(projections=frozenset({0}))
    with pytest.raises(ValueError, match="the query of layer 0 has no gradient"):
        encode(student, inputs, layout, request)
    with torch.no_grad():
        assert encode(student, inputs, layout, request).queries[0].shape == (8, 32)
    student.base_model.encoder.layer[0].requires_grad_(False)
    assert encode(student, inputs, layout, request).queries[0].shape == (8, 32)
