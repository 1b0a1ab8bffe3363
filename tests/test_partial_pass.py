"""Passes that run a part of a model: right in every family that is mapped for masked LM, and leaving no trace."""

import every_family
import pytest
import tiny
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from retort import shrink
from retort.modeling import layers_in_order
from retort.modeling.encoding import OutputRequest, TokenLayout, encode, has_plain_output_layer

LENGTHS = [12, 8]
# Families whose hidden states can't be told from one another.
REFUSED = {
    **dict.fromkeys(("bart", "flaubert", "mbart", "mvp", "xlm"), "spreads its 4 layers over"),
    **dict.fromkeys(("modernvbert", "perceiver", "ultravbert"), "has no num_hidden_layers"),
    "funnel": "holds no list of 4 equal layers",
    "longformer": r"computes \[2, 16\] vectors .* but the batch is \[2, 12\]",
    "reformer": "reversible layers",
    "squeezebert": "called its layers 0 times, but 4 calls were expected",
}
# Families whose layers return tuples or don't say what they return, and ALBERT: one layer runs where none is needed.
ONE_AT_LEAST = [
    "gemma3 text",
    "t5 encoder",
    "umt5 encoder",
    *"""albert deberta deberta-v2 embeddinggemma esm fnet ibert longformer luke megatron-bert mpnet mra nystromformer
    rembert roformer tapas yoso""".split(),
]
TAKEN = [name for name in every_family.NAMES if name not in REFUSED]


def batch():
    layout = TokenLayout.from_lengths(LENGTHS, packed=False)
    return {"input_ids": layout.pad(torch.arange(8, 28)), "attention_mask": layout.mask.long()}, layout


def states(model, *indices, stop_early=False):
    request = OutputRequest(hidden_states=frozenset(indices))
    with torch.no_grad():
        return encode(model, *batch(), request, stop_early=stop_early).hidden_states


def calls(model):
    """The calls of its layers from here on."""
    made = []
    for layer in dict.fromkeys(layers_in_order(model)):
        layer.register_forward_hook(lambda *_: made.append(1))
    return made


@pytest.mark.promise(9)
@pytest.mark.parametrize("name", TAKEN)
def test_hidden_states_are_those_of_transformers_however_early_a_pass_stops(name):
    model = every_family.build(name)
    inputs, layout = batch()
    with torch.no_grad():
        expected = [layout.flatten(s) for s in model.base_model(**inputs, output_hidden_states=True).hidden_states]
    everything = states(model, *range(len(expected)))
    kept, depth, made = list(model.named_modules()), model.config.num_hidden_layers, calls(model)
    for index, state in enumerate(expected):
        torch.testing.assert_close(everything[index], state)
        made.clear()
        assert torch.equal(states(model, index, stop_early=True)[index], everything[index])
        # A convolution stands behind the first layer of the table's second DeBERTa.
        least = 2 if name == "deberta-v2 relative" else int(name in ONE_AT_LEAST)
        assert len(made) == max(index, least)
    assert list(model.named_modules()) == kept
    assert model.config.num_hidden_layers == depth


@pytest.mark.promise(9)
@pytest.mark.parametrize("name", REFUSED)
def test_hidden_states_that_cannot_be_told_apart_are_refused(name):
    with pytest.raises(ValueError, match=REFUSED[name]):
        states(every_family.build(name), 1)


def albert(groups, **sizes):
    from transformers import AlbertConfig, AlbertModel

    torch.manual_seed(0)
    common = {"vocab_size": 96, "embedding_size": 16, "hidden_size": 32, "num_attention_heads": 4, "pad_token_id": 0}
    sizes = {"num_hidden_layers": 4, "intermediate_size": 48, "num_hidden_groups": groups} | sizes
    return AlbertModel(AlbertConfig(**common | sizes)).eval()


@pytest.mark.parametrize(("groups", "expected"), [(1, [1, 1, 2, 3, 4]), (2, [4] * 5)], ids=["one", "two groups"])
def test_albert_stops_early_where_its_layers_are_one(groups, expected):
    model = albert(groups)
    everything, made, ran = states(model, *range(5)), calls(model), []
    for index in range(5):
        made.clear()
        assert torch.equal(states(model, index, stop_early=True)[index], everything[index])
        ran.append(len(made))
    assert ran == expected


def test_an_albert_whose_depth_is_not_its_number_of_layers_is_refused():
    with pytest.raises(ValueError, match="inner_group_num=2"):
        states(albert(2, inner_group_num=2), 1)


def test_a_recurrent_student_stops_within_its_steps():
    model = shrink(tiny.model("bert", layers=3), layers=2, recurrent_steps=3)
    everything, made = states(model, *range(7)), calls(model)
    for index in range(7):
        made.clear()
        assert torch.equal(states(model, index, stop_early=True)[index], everything[index])
        assert len(made) == index
    assert model.encoder.num_recurrent_steps == 3


def test_the_convolution_after_debertas_first_layer_is_part_of_its_state():
    model = tiny.model("deberta-v2", layers=4, conv_kernel_size=3, conv_act="gelu")
    inputs, layout = batch()
    with torch.no_grad():
        expected = [layout.flatten(state) for state in model(**inputs, output_hidden_states=True).hidden_states]
    for index, state in enumerate(expected):
        torch.testing.assert_close(states(model, index, stop_early=True)[index], state)
        torch.testing.assert_close(states(model, index)[index], state)


def test_code_from_elsewhere_runs_to_its_end(monkeypatch):
    model = tiny.model("bert", layers=4)
    elsewhere = type("BertModel", (type(model),), {"__module__": "transformers_modules.someone.modeling"})
    model.__class__ = elsewhere
    made = calls(model)
    states(model, 1, stop_early=True)
    assert len(made) == 4


@pytest.mark.parametrize("task", ["encoder", "masked_lm"])
def test_a_pass_that_fails_leaves_the_model_whole(task):
    model = tiny.model("bert", task, layers=4)
    kept = list(model.named_modules())
    first = model.base_model.encoder.layer[0]

    def fail(*_):
        raise RuntimeError("an error of its own")

    hook = first.register_forward_hook(fail)
    request = OutputRequest(hidden_states=frozenset({2})) if task == "encoder" else OutputRequest(features=True)
    with pytest.raises(RuntimeError, match="an error of its own"):
        encode(model, *batch(), request, stop_early=True)
    hook.remove()
    assert list(model.named_modules()) == kept
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("request_of", [{"hidden_states": frozenset({1, 2})}, {"pooler": "mean"}, {"features": True}])
def test_compiled_layers_are_not_compiled_anew_in_every_pass(request_of):
    model = tiny.model("bert", "masked_lm", layers=4)
    counter = CompileCounter()
    for index, layer in enumerate(model.bert.encoder.layer):
        model.bert.encoder.layer[index] = torch.compile(layer, backend=counter)
    compiled = []
    for _ in range(3):
        with torch.no_grad():
            encode(model, *batch(), OutputRequest(**request_of), stop_early=True)
        compiled.append(counter.frame_count)
    assert compiled[0] > 0
    assert compiled == compiled[:1] * 3
    assert isinstance(model.bert.encoder.layer, nn.ModuleList)


NOT_PLAIN = (
    "esm",
    "mobilebert",
    "embeddinggemma",
    "gemma3 text",
    "gpt2",
    "llama",
    "qwen3",
    "t5 encoder",
    "umt5 encoder",
)


@pytest.mark.parametrize("name", [name for name in TAKEN if name not in NOT_PLAIN])
def test_features_and_a_plain_output_layer_make_the_logits(name):
    model = every_family.build(name)
    inputs, layout = batch()
    with torch.no_grad():
        logits = layout.flatten(model(**inputs).logits)
        output = encode(model, inputs, layout, OutputRequest(output_layer=True), stop_early=True)
    assert has_plain_output_layer(model)
    assert output.logits is None
    made = output.output_layer.columns(output.features).T
    torch.testing.assert_close(made, logits, rtol=1e-4, atol=1e-5 * float(logits.abs().max()))


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_heads_that_do_more_and_models_without_one_have_no_plain_output_layer(name):
    model = every_family.build(name)
    assert not has_plain_output_layer(model)
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.promise(9)
def test_features_of_a_head_that_never_calls_its_output_layer_are_refused():
    with pytest.raises(ValueError, match="MobileBertForMaskedLM doesn't call its last linear map"):
        encode(every_family.build("mobilebert"), *batch(), OutputRequest(output_layer=True))
