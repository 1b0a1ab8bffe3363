"""`encode` against what transformers itself returns, family by family."""

import every_family
import pytest
import tiny
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling, WeightedLayerPooling

from retort.modeling.encoding import POOLERS, OutputRequest, TokenLayout, encode

LENGTHS = [5, 9, 3]


def padded_batch():
    generator = torch.Generator().manual_seed(1)
    layout = TokenLayout.from_lengths(LENGTHS, packed=False)
    ids = torch.randint(5, tiny.VOCAB_SIZE - 20, (len(LENGTHS), layout.width), generator=generator)
    return {"input_ids": ids * layout.mask, "attention_mask": layout.mask.long()}, layout


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_hidden_states_and_logits_are_those_of_transformers(family):
    model = tiny.model(family, "token")
    inputs, layout = padded_batch()
    request = OutputRequest(logits=True, hidden_states=frozenset({0, 1, 2}))
    with torch.no_grad():
        output = encode(model, inputs, layout, request)
        reference = model(**inputs, output_hidden_states=True)
    torch.testing.assert_close(output.logits, reference.logits[layout.mask])
    for index, state in output.hidden_states.items():
        torch.testing.assert_close(state, reference.hidden_states[index][layout.mask])


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_attention_maps_are_those_of_transformers(family):
    model = tiny.model(family)
    model.set_attn_implementation("eager")
    inputs, layout = padded_batch()
    with torch.no_grad():
        output = encode(model, inputs, layout, OutputRequest(attentions=frozenset({1})))
        reference = model(**inputs, output_attentions=True)
    torch.testing.assert_close(output.attentions[1], reference.attentions[1])


def test_attention_maps_of_an_implementation_without_them_are_refused():
    inputs, layout = padded_batch()
    with pytest.raises(ValueError, match="set_attn_implementation\\('eager'\\)"):
        encode(tiny.model(), inputs, layout, OutputRequest(attentions=frozenset({0})))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_stopping_early_changes_nothing_but_the_layers_that_run(family):
    model = tiny.model(family, "token", layers=4)
    inputs, layout = padded_batch()
    request = OutputRequest(hidden_states=frozenset({0, 2}), projections=frozenset({1}))
    ran = []
    hooks = [module.register_forward_hook(lambda *_: ran.append(1)) for module in deep_layers(model)]
    with torch.no_grad():
        short = encode(model, inputs, layout, request, stop_early=True)
        assert len(ran) == 2
        full = encode(model, inputs, layout, request)
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(short.hidden_states, full.hidden_states)
    torch.testing.assert_close(short.values, full.values)


def deep_layers(model):
    from retort.modeling import encoder_layers

    return encoder_layers(model)


def test_projections_are_what_attention_is_made_of():
    model = tiny.model("bert", hidden=32, heads=4)
    model.set_attn_implementation("eager")
    inputs, layout = padded_batch()
    with torch.no_grad():
        output = encode(model, inputs, layout, OutputRequest(attentions=frozenset({0}), projections=frozenset({0})))
    queries, keys = (layout.pad(v).unflatten(-1, (4, 8)).transpose(1, 2) for v in (output.queries[0], output.keys[0]))
    scores = queries @ keys.transpose(-1, -2) / 8**0.5
    maps = scores.masked_fill(~layout.mask[:, None, None], float("-inf")).softmax(-1)
    real = layout.mask[:, None, :, None].expand_as(maps)
    torch.testing.assert_close(output.attentions[0][real], maps[real])


def test_fused_projections_come_apart():
    model = tiny.model("modernbert")
    inputs, layout = padded_batch()
    with torch.no_grad():
        output = encode(model, inputs, layout, OutputRequest(projections=frozenset({0}), hidden_states=frozenset({0})))
        joined = model.layers[0].attn.Wqkv(model.layers[0].attn_norm(output.hidden_states[0]))
    torch.testing.assert_close(torch.cat([output.queries[0], output.keys[0], output.values[0]], -1), joined)


@pytest.mark.parametrize("pooler", POOLERS)
def test_poolers_against_their_definition(pooler):
    model = tiny.model("bert", layers=3)
    inputs, layout = padded_batch()
    with torch.no_grad():
        embedding = encode(model, inputs, layout, OutputRequest(pooler=pooler)).embedding
        reference = model(**inputs, output_hidden_states=True)
    states = [state.double() for state in reference.hidden_states]
    tokens = {
        "mean": states[3],
        "mean_last_two": (states[2] + states[3]) / 2,
        "mean_first_last": (states[0] + states[3]) / 2,
        "mean_first": states[0],
    }
    if pooler == "cls":
        expected = reference.pooler_output.double()
    elif pooler == "cls_before_pooler":
        expected = states[3][:, 0]
    elif pooler == "last_token":
        expected = torch.stack([row[n - 1] for row, n in zip(states[3], LENGTHS, strict=True)])
    elif pooler == "max":
        expected = torch.stack([row[:n].amax(0) for row, n in zip(states[3], LENGTHS, strict=True)])
    else:
        expected = torch.stack([row[:n].mean(0) for row, n in zip(tokens[pooler], LENGTHS, strict=True)])
    torch.testing.assert_close(embedding.double(), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_the_mean_of_the_last_two_is_that_of_sentence_transformers(family, tmp_path):
    # ModernBERT's last hidden state comes out of its final norm and the one below does not: they are averaged as such.
    model = tiny.model(family, layers=3, output_hidden_states=True)
    model.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    theirs = SentenceTransformer(
        modules=[Transformer(str(tmp_path)), WeightedLayerPooling(32, num_hidden_layers=3, layer_start=2), Pooling(32)],
        device="cpu",
    )
    texts = tiny.sentences(5)
    rows = tiny.tokenizer()(texts, padding=True, return_tensors="pt")
    layout = TokenLayout.from_attention_mask(rows["attention_mask"])
    inputs = {name: rows[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        found = encode(model, inputs, layout, OutputRequest(pooler="mean_last_two")).embedding
    torch.testing.assert_close(found, theirs.encode(texts, convert_to_tensor=True), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("pooler", "states"), [("mean_last_two", (-2, -1)), ("mean_first_last", (0, -1))])
@pytest.mark.parametrize("name", ["modernbert", "roberta-prelayernorm", "xlm-roberta-xl", "eurobert", "t5 encoder"])
def test_averages_of_states_are_simcses_on_pre_norm_encoders_too(pooler, states, name):
    model = every_family.build(name)
    inputs, layout = padded_batch()
    inputs["input_ids"] = inputs["input_ids"] % every_family.VOCABULARY
    with torch.no_grad():
        found = encode(model, inputs, layout, OutputRequest(pooler=pooler)).embedding
        hidden = model.base_model(**inputs, output_hidden_states=True).hidden_states
    # evaluation.py of https://github.com/princeton-nlp/SimCSE: avg_top2 and avg_first_last.
    mask = layout.mask[..., None]
    pair = (hidden[states[0]] + hidden[states[1]]) / 2
    torch.testing.assert_close(found, (pair * mask).sum(1) / mask.sum(1), rtol=1e-5, atol=1e-5)


def test_a_model_without_a_pooler_can_not_pool_by_cls():
    inputs, layout = padded_batch()
    with pytest.raises(ValueError, match="cls_before_pooler"):
        encode(tiny.model("distilbert"), inputs, layout, OutputRequest(pooler="cls"))


def test_two_poolers_in_one_pass_are_refused():
    with pytest.raises(ValueError, match="'mean' and 'cls'"):
        OutputRequest(pooler="mean") | OutputRequest(pooler="cls")
