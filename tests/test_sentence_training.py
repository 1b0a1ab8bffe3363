"""A student's embedding through all its modules: the gradients of sentence-transformers, and what was learnt, saved."""

from dataclasses import replace
from itertools import chain

import pytest
import tiny
import torch
from sentence_models import EXACT, KINDS, TEXTS, encoded, sentence_transformer
from sentence_transformers import SentenceTransformer
from torch import nn

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


def test_a_trainable_head_is_a_copy_and_saved_weights_are_another(tokenizer, tmp_path):
    modules = SentenceEncoder.of(sentence_transformer(tmp_path / "encoder", tokenizer, "concatenated")).modules
    head = modules.trainable_head()
    assert not any(parameter.requires_grad for parameter in modules.head.parameters())
    assert all(parameter.requires_grad for parameter in head.parameters())
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(1)
    learnt = modules.with_weights(head.state_dict())
    pooled = torch.randn(3, 96)
    torch.testing.assert_close(learnt.finish(pooled), head(pooled))
    assert not torch.allclose(modules.finish(pooled), head(pooled))
    with torch.no_grad():
        head.layers[0].weight.zero_()
    assert not torch.allclose(learnt.finish(pooled), head(pooled))
    with pytest.raises(RuntimeError, match="Missing key"):
        modules.with_weights({})


def test_modules_leave_alone_what_they_are_made_of_and_a_teachers_are_frozen():
    linear = nn.Linear(32, 8)
    modules = SentenceModules(Pooling(("mean",)), 20, nn.Sequential(Dense(linear, nn.Tanh()), Normalize()))
    assert linear.weight.requires_grad
    encoder = SentenceEncoder(tiny.model(), tiny.tokenizer(), modules)
    LiveTeacher([encoder], OutputRequest(pooler="mean"))
    assert not linear.weight.requires_grad
