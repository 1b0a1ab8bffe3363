"""A student's embedding through all its modules: the gradients of sentence-transformers, and what was learnt, saved."""

import copy
from dataclasses import replace
from itertools import chain

import pytest
import tiny
import torch
from datasets import Dataset
from sentence_models import EXACT, KINDS, TEXTS, encoded, sentence_transformer
from sentence_transformers import SentenceTransformer
from torch import nn

from retort import DistillTrainer, tokenize
from retort.modeling.encoding import (
    Dense,
    Normalize,
    OutputRequest,
    Packing,
    Pooling,
    SentenceEncoder,
    SentenceModules,
    TokenLayout,
    encode,
    supports_packing,
)
from retort.trainers.saving import save_sentence_transformer
from retort.trainers.teachers import LiveTeacher

STUDENTS = [name for name in KINDS if name != "qwen3"]


def batch_of(encoder, packed):
    """One batch of all texts with the default prompt, in the texts' order: inputs and layout."""
    texts = [encoder.modules.prompt() + text for text in TEXTS]
    ids = encoder.tokenizer(texts, truncation=True, max_length=encoder.max_length)["input_ids"]
    layout = TokenLayout.from_lengths(list(map(len, ids)), packed=packed)
    flat = torch.tensor(list(chain.from_iterable(ids)))
    if not packed:
        return {"input_ids": layout.pad(flat), "attention_mask": layout.mask.long()}, layout
    assert supports_packing(encoder.model)
    mask = Packing.from_layout(layout)
    return {"input_ids": flat[None], "position_ids": layout.positions[None], "attention_mask": mask}, layout


def gradients(loss, parameters):
    """All gradients in one vector."""
    return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, parameters)])


def parameters_of(*modules):
    """Those that an embedding depends on: BERT's own pooler isn't run."""
    return [
        parameter for module in modules for name, parameter in module.named_parameters() if "pooler.dense" not in name
    ]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", STUDENTS)
def test_gradients_through_all_modules_are_those_of_sentence_transformers(name, packed, tokenizer, tmp_path):
    theirs = sentence_transformer(tmp_path / "encoder", tokenizer, name).eval()
    ours = SentenceEncoder.of(theirs)
    target = torch.randn(len(TEXTS), ours.embedding_size, generator=torch.Generator().manual_seed(0))

    features = theirs.preprocess(TEXTS, prompt=ours.modules.prompt())
    made = theirs(features)["sentence_embedding"][:, : theirs.truncate_dim]
    their_loss = (made * target).sum()
    expected = gradients(their_loss, parameters_of(*theirs))

    head = ours.modules.trainable_head()
    inputs, layout = batch_of(ours, packed)
    embedding = head(encode(ours.model, inputs, layout, OutputRequest(pooler=ours.pooling())).embedding)
    torch.testing.assert_close(embedding, made, **EXACT)
    found = gradients((embedding * target).sum(), parameters_of(ours.model, head))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    # The encoder's own embeddings are the same, through frozen modules.
    torch.testing.assert_close(ours.embed(inputs, layout), embedding, **EXACT)


@pytest.mark.promise(5)
@pytest.mark.parametrize("name", STUDENTS)
def test_what_20_steps_have_learnt_is_saved_with_the_student(name, tokenizer, tmp_path):
    theirs = sentence_transformer(tmp_path / "encoder", tokenizer, name)
    ours = SentenceEncoder.of(theirs)
    before = encoded(ours)
    head, (inputs, layout) = ours.modules.trainable_head(), batch_of(ours, packed=False)
    parameters = parameters_of(ours.model, head)
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    target = torch.randn(len(TEXTS), ours.embedding_size, generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(20):
        embedding = head(encode(ours.model, inputs, layout, OutputRequest(pooler=ours.pooling())).embedding)
        losses.append(nn.functional.mse_loss(embedding, target))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    learnt = SentenceEncoder(ours.model, ours.tokenizer, ours.modules.with_weights(head.state_dict()))
    learnt.save_pretrained(tmp_path / "out")
    assert all(parameter.requires_grad for parameter in head.parameters())  # training may go on
    expected = head(encode(ours.model, inputs, layout, OutputRequest(pooler=ours.pooling())).embedding).detach()
    stock = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    torch.testing.assert_close(encoded(stock), expected, **EXACT)
    torch.testing.assert_close(encoded(SentenceEncoder.from_pretrained(tmp_path / "out")), expected, **EXACT)
    assert (expected - before).abs().max() > 1e-3


@pytest.mark.promise(5)
@pytest.mark.parametrize("name", ["concatenated", "prompt not pooled, cls"])
def test_a_students_modules_are_written_beside_its_saved_encoder_or_not_at_all(name, tokenizer, tmp_path):
    theirs = sentence_transformer(tmp_path / "encoder", tokenizer, name)
    modules = SentenceEncoder.of(theirs).modules
    head = modules.trainable_head()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(2)
    folder = tmp_path / "out"
    theirs[0].auto_model.save_pretrained(folder)
    with pytest.raises(FileNotFoundError, match=r"no tokenizer_config\.json"):
        save_sentence_transformer(folder, modules)
    tokenizer.save_pretrained(folder)
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(ValueError, match="the encoder has positions for 1 to 66 tokens"):
        save_sentence_transformer(folder, replace(modules, max_length=67))
    assert sorted(path.name for path in folder.iterdir()) == before
    learnt = modules.with_weights(head.state_dict())
    save_sentence_transformer(folder, learnt)
    expected = encoded(SentenceEncoder(theirs[0].auto_model, tokenizer, learnt))
    torch.testing.assert_close(encoded(SentenceTransformer(str(folder), device="cpu")), expected, **EXACT)


@pytest.mark.promise(5)
@pytest.mark.parametrize("frozen", [False, True])
def test_a_sentence_transformer_is_trained_in_place_and_its_frozen_dense_stays(frozen, tokenizer, tmp_path):
    theirs = sentence_transformer(tmp_path / "encoder", tokenizer, "concatenated")
    norm, dense = theirs[2], theirs[3]
    dense.requires_grad_(not frozen)
    first = {module: copy.deepcopy(module.state_dict()) for module in (norm, dense)}
    settings = {"similarity_weight": 1.0, "teacher_pooler": "mean", "max_steps": 6, "learning_rate": 1e-2}
    args = tiny.arguments(tmp_path / "run", **settings, save_strategy="no")
    rows = tokenize(Dataset.from_dict({"text": TEXTS}), tokenizer, max_length=20)
    trainer = DistillTrainer(theirs, tiny.model(seed=1), args, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    trainer.save_model()
    for module, stays in ((norm, False), (dense, frozen)):
        assert all(torch.equal(first[module][name], now) == stays for name, now in module.state_dict().items())
    assert all(parameter.requires_grad != frozen for parameter in dense.parameters())
    exact, now = {"atol": 1e-6, "rtol": 0}, encoded(theirs)
    torch.testing.assert_close(now, torch.as_tensor(trainer.predict(rows).predictions), **exact)
    torch.testing.assert_close(now, encoded(SentenceTransformer(str(tmp_path / "run"), device="cpu")), **exact)


def test_a_head_in_training_shares_its_weights_or_copies_them_and_saved_ones_are_copies(tokenizer, tmp_path):
    modules = SentenceEncoder.of(sentence_transformer(tmp_path / "encoder", tokenizer, "concatenated")).modules
    head, apart = modules.trainable_head(), modules.trainable_head(shared=False)
    assert all(parameter.requires_grad for parameter in (*head.parameters(), *apart.parameters()))
    head.train()
    assert not any(module.training for module in modules.head)
    learnt, pooled = modules.with_weights(head.state_dict()), torch.randn(3, 96)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(1)
    torch.testing.assert_close(modules.finish(pooled), head(pooled))
    torch.testing.assert_close(learnt.finish(pooled), apart(pooled))
    assert not torch.allclose(learnt.finish(pooled), head(pooled))
    with pytest.raises(RuntimeError, match="Missing key"):
        modules.with_weights({})
    with torch.inference_mode():
        modules.finish(pooled.to("meta"))  # another device
    assert not any(parameter.is_inference() for parameter in modules.head.parameters())


def test_modules_leave_alone_what_they_are_made_of_and_a_teachers_are_frozen():
    linear = nn.Linear(32, 8)
    modules = SentenceModules(Pooling(("mean",)), 20, nn.Sequential(Dense(linear, nn.Tanh()), Normalize()))
    assert linear.weight.requires_grad
    encoder = SentenceEncoder(tiny.model(), tiny.tokenizer(), modules)
    LiveTeacher([encoder], OutputRequest(pooler="mean"))
    assert not linear.weight.requires_grad
