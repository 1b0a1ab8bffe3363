"""Texts to embeddings: right whatever the order, the batch size and the mode of the model."""

import pytest
import tiny
import torch
from sentence_transformers import SentenceTransformer
from torch.nn import functional as F

from retort.modeling.encoding import SentenceEncoder, SentenceModules

TEXTS = tiny.sentences(23, seed=5)


def embed(model, tokenizer, texts, *, pooler="mean", normalize=False, batch_size=32, max_length=128):
    modules = SentenceModules.plain(pooler, max_length, normalize=normalize)
    return SentenceEncoder(model, tokenizer, modules).encode(texts, batch_size=batch_size)


def reference(model, tokenizer, text, max_length=128):
    """One text alone, no padding, plain mean."""
    with torch.no_grad():
        inputs = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
        return model(**inputs).last_hidden_state[0].mean(0)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "modernbert"])
def test_embeddings_in_batches_are_those_of_each_text_alone_in_the_given_order(family, tokenizer):
    model = tiny.model(family)
    expected = torch.stack([reference(model, tokenizer, text) for text in TEXTS])
    for batch_size in (1, 4, 64):
        torch.testing.assert_close(embed(model, tokenizer, TEXTS, batch_size=batch_size), expected)


def test_sentence_transformers_makes_the_same_embeddings(tokenizer, tmp_path):
    tiny.model().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    # A folder without modules.json gets mean pooling.
    theirs = SentenceTransformer(str(tmp_path), device="cpu")
    theirs.max_seq_length = 9
    ours = embed(tiny.model(), tokenizer, TEXTS, max_length=9)
    torch.testing.assert_close(ours, theirs.encode(TEXTS, convert_to_tensor=True))


def test_what_is_longer_than_max_length_is_cut(tokenizer):
    model = tiny.model()
    text = "the cat sat on the mat under the tree"
    torch.testing.assert_close(embed(model, tokenizer, [text], max_length=5)[0], reference(model, tokenizer, text, 5))


def test_what_the_model_has_no_positions_for_is_cut_too(tokenizer):
    model, text = tiny.model(), "cat " * 300
    assert tokenizer.model_max_length == 64
    torch.testing.assert_close(
        embed(model, tokenizer, [text], max_length=500)[0], reference(model, tokenizer, text, 64)
    )


def test_the_pooler_is_the_one_asked_for(tokenizer):
    model = tiny.model()
    with torch.no_grad():
        output = model(**tokenizer(TEXTS[0], return_tensors="pt"))
    first = embed(model, tokenizer, TEXTS[:3], pooler="cls_before_pooler")[0]
    torch.testing.assert_close(first, output.last_hidden_state[0, 0])


def test_normalized_embeddings_have_unit_length_and_the_same_direction(tokenizer):
    model = tiny.model()
    plain, unit = (embed(model, tokenizer, TEXTS, normalize=normalize) for normalize in (False, True))
    torch.testing.assert_close(unit, F.normalize(plain, dim=-1))


def test_embeddings_are_float32_and_can_be_trained_on_even_if_the_model_is_bfloat16(tokenizer):
    embeddings = embed(tiny.model().bfloat16(), tokenizer, TEXTS)
    assert embeddings.dtype == torch.float32
    assert not embeddings.is_inference()
    assert not embeddings.requires_grad


def test_dropout_is_off_and_each_module_gets_its_own_mode_back(tokenizer):
    model = tiny.model()
    expected = embed(model, tokenizer, TEXTS)
    model.train()
    model.embeddings.eval()
    modes = [module.training for module in model.modules()]
    torch.testing.assert_close(embed(model, tokenizer, TEXTS), expected, rtol=0, atol=0)
    assert [module.training for module in model.modules()] == modes
    assert True in modes
    assert False in modes


def test_the_mode_comes_back_after_an_error_too(tokenizer):
    model = tiny.model("distilbert").train()
    with pytest.raises(ValueError, match="needs an encoder with a pooler"):
        embed(model, tokenizer, TEXTS, pooler="cls")
    assert model.training


@pytest.mark.parametrize("texts", [[], "one string"])
def test_no_list_of_texts_is_an_error(texts, tokenizer):
    with pytest.raises(ValueError, match="list of at least one text"):
        embed(tiny.model(), tokenizer, texts)
