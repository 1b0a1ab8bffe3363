"""MCLTrainer against its formulas in float64, and what it refuses."""

import pytest
import tiny
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from steps import gradient_of, step_of
from torch.nn import functional as F

from retort import MCLTrainer, MCLTrainingArguments
from retort.data import tokenize_groups


def pairs(tokenizer, teacher_tokenizer=None, rows=12):
    texts = {side: tiny.sentences(rows, seed=seed) for seed, side in enumerate(("source", "target"))}
    return tokenize_groups(Dataset.from_dict(texts), tokenizer, teacher_tokenizer=teacher_tokenizer or tokenizer)


def make_trainer(tmp_path, tokenizer, *, width=32, kind=None, **settings):
    theirs = tiny.tokenizer(kind) if kind else None
    data = pairs(tokenizer, theirs)
    defaults = {"max_steps": 3, "save_strategy": "no", "disable_dropout": True, "learning_rate": 3e-3}
    args = tiny.arguments(tmp_path, MCLTrainingArguments, **defaults | settings)
    return MCLTrainer(
        tiny.model("bert"),
        tiny.model("bert", seed=3, hidden=width, vocab_size=200),
        args,
        train_dataset=data,
        eval_dataset=data,
        processing_class=tokenizer,
        teacher_processing_class=theirs,
    )


def embedded(model, tokens):
    """Mean of the last hidden states, row by row without padding: `[rows, hidden]`, float64."""
    with torch.no_grad():
        rows = [model(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0) for ids in tokens]
    return torch.stack(rows).double()


def expected_losses(trainer, rows, loss):
    data = trainer.train_dataset.select(rows)
    student = trainer.student
    sources, targets = (embedded(student, [row[side] for row in data["members"]]) for side in (0, 1))
    theirs = embedded(trainer.teacher.models[0], data["teacher_input_ids"])

    def cosines(first, second):
        return F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).T

    mcl = (cosines(theirs, theirs) - cosines(sources, targets)).square().mean()
    head = trainer.model.objectives["source"].projector.double()
    with torch.no_grad():
        ours = [head(sources), head(targets)]
    if loss == "mse":
        return mcl, *((each - theirs).square().mean() for each in ours)
    return mcl, *((1 - F.cosine_similarity(each, theirs)).mean() for each in ours)


@pytest.mark.parametrize("attention_backend", ["auto", "padded"])
@pytest.mark.parametrize(("width", "kind"), [(32, None), (32, "bpe"), (48, "unigram")])
@pytest.mark.parametrize("loss", ["mse", "cosine"])
def test_the_loss_is_that_of_the_formulas(loss, width, kind, attention_backend, tokenizer, tmp_path):
    settings = {"mcl_weight": 0.5, "source_weight": 2.0, "target_weight": 3.0}
    trainer = make_trainer(
        tmp_path,
        tokenizer,
        width=width,
        kind=kind,
        embedding_loss=loss,
        attention_backend=attention_backend,
        **settings,
    )
    (batch,), counts = step_of(trainer, [7, 1, 4, 9, 2])
    ours = trainer.compute_loss(trainer.model, batch, num_items_in_batch=counts)
    mcl, source, target = expected_losses(trainer, [7, 1, 4, 9, 2], loss)
    assert ours.item() == pytest.approx((0.5 * mcl + 2 * source + 3 * target).item(), rel=1e-4)


@pytest.mark.promise(3)
@pytest.mark.parametrize("width", [32, 48])
def test_micro_batches_have_the_gradient_of_one_large_batch(width, tokenizer, tmp_path):
    trainer = make_trainer(tmp_path, tokenizer, width=width)
    parts = gradient_of(trainer, range(5), range(5, 6), range(6, 12))
    torch.testing.assert_close(parts, gradient_of(trainer, range(12)), rtol=1e-4, atol=1e-5)


def test_without_similarities_it_is_multilingual_distillation(tokenizer, tmp_path):
    trainer = make_trainer(tmp_path, tokenizer, mcl_weight=0.0)
    assert trainer.contrast is None
    (batch,), counts = step_of(trainer, range(6))
    ours = trainer.compute_loss(trainer.model, batch, num_items_in_batch=counts)
    _, source, target = expected_losses(trainer, range(6), "mse")
    assert ours.item() == pytest.approx((source + target).item(), rel=1e-4)


@pytest.mark.parametrize("kind", [None, "bpe"])
def test_a_cached_teacher_teaches_the_same(kind, tokenizer, tmp_path):
    live = make_trainer(tmp_path / "live", tokenizer, kind=kind)
    cached = make_trainer(
        tmp_path / "cached", tokenizer, kind=kind, teacher_cache=str(tmp_path / "cache"), teacher_cache_dtype="float32"
    )
    losses = []
    for trainer in (live, cached):
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_training_evaluation_and_export(tokenizer, tmp_path):
    trainer = make_trainer(tmp_path, tokenizer, kind="bpe", max_steps=40)
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    for name in ("eval_loss_mcl", "eval_loss_source", "eval_loss_target", "eval_alignment"):
        assert after[name] < before[name]
    trainer.save_model()
    assert SentenceTransformer(str(tmp_path), device="cpu").encode(["a cat"]).shape == (1, 32)
    card = (tmp_path / "README.md").read_text()
    assert "ding2022multistage" in card
    assert "reimers2020multilingual" in card


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embedding_weight": 1.0}, "embedding_weight compares outputs of student and teacher for the same text"),
        ({"mcl_weight": 0.0, "source_weight": 0.0, "target_weight": 0.0}, "No objective"),
        ({"width": 48, "projector": "none"}, "projector='none' allows no projector"),
    ],
)
def test_what_can_not_be_learnt_is_refused(settings, message, tokenizer, tmp_path):
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, tokenizer, **settings)


@pytest.mark.promise(9)
def test_rows_without_tokens_for_the_teacher_are_refused(tokenizer, tmp_path):
    trainer = make_trainer(tmp_path, tokenizer)
    trainer.train_dataset = trainer.train_dataset.remove_columns("teacher_input_ids")
    with pytest.raises(ValueError, match="no teacher_input_ids"):
        trainer.train()
