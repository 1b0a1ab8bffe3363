import pytest
import tiny
import torch
from transformers import FNetConfig, FNetModel

from retort.modeling import (
    attention_projections,
    encoder_layers,
    layers_name,
    parameter_count,
    split_layer_name,
)
from retort.modeling.anatomy import attention_output, position_projections

OUTPUTS = {
    "bert": "attention.output.dense",
    "roberta": "attention.output.dense",
    "xlm-roberta": "attention.output.dense",
    "distilbert": "attention.out_lin",
    "electra": "attention.output.dense",
    "mpnet": "attention.attn.o",
    "deberta-v2": "attention.output.dense",
    "modernbert": "attn.Wo",
}


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_layers_and_their_name_are_found_under_every_task_head(family):
    for task in tiny.AUTO_CLASSES:
        model = tiny.model(family, task, layers=3)
        assert len(encoder_layers(model)) == 3
        assert model.get_submodule(layers_name(model)) is encoder_layers(model)
        assert encoder_layers(model) is encoder_layers(model.base_model)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_projections_give_queries_keys_and_values_in_that_order(family):
    layer = encoder_layers(tiny.model(family))[1]
    projections = attention_projections(layer)
    if "fused" in projections:
        assert list(projections["fused"].weight.shape) == [96, 32]
    else:
        assert list(projections) == ["query", "key", "value"]
        assert all(name[0] == "q" for name in _names(layer, projections["query"]))
        assert all(name[0] == "k" for name in _names(layer, projections["key"]))
        assert all(name[0] == "v" for name in _names(layer, projections["value"]))


def _names(layer, module):
    return [name.rsplit(".", 1)[-1] for name, other in layer.named_modules() if other is module]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_map_that_mixes_the_heads_is_the_one_after_the_projections(family):
    layer = encoder_layers(tiny.model(family))[1]
    assert attention_output(layer) is layer.get_submodule(OUTPUTS[family])


def test_debertas_maps_of_positions_are_told_from_the_map_that_mixes_the_heads():
    layer = encoder_layers(tiny.model("deberta-v2", share_att_key=False))[0]
    assert len(position_projections(layer)) == 2
    assert attention_output(layer) is layer.get_submodule("attention.output.dense")
    assert position_projections(encoder_layers(tiny.model("bert"))[0]) == []


def test_the_name_of_a_weight_is_taken_apart():
    assert split_layer_name("bert.encoder.layer.12.output.dense.bias", "bert.encoder.layer") == (
        12,
        "output.dense.bias",
    )
    assert split_layer_name("bert.encoder.layers.1.bias", "bert.encoder.layer") == (None, "bert.encoder.layers.1.bias")


def test_a_model_without_a_list_of_layers_or_without_attention_is_refused():
    model = tiny.model("bert")
    model.config.num_hidden_layers = 5
    with pytest.raises(ValueError, match="holds no list of 5 equal layers"):
        encoder_layers(model)
    fourier = FNetModel(FNetConfig(hidden_size=16, num_hidden_layers=1, intermediate_size=16, vocab_size=20))
    with pytest.raises(ValueError, match="FNetLayer has no query, key and value maps under a known name"):
        attention_projections(encoder_layers(fourier)[0])


def test_nothing_after_the_projections_is_an_error():
    layer = torch.nn.Module()
    layer.Wqkv = torch.nn.Linear(4, 12)
    with pytest.raises(ValueError, match="no linear map after its queries, keys and values"):
        attention_output(layer)


def test_a_tied_matrix_is_counted_once():
    model = tiny.model("bert", "masked_lm")
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    assert {"cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"} <= names
    untied = sum(t.numel() for t in model.state_dict().values())
    vocabulary, hidden = tiny.VOCAB_SIZE, 32
    assert parameter_count(model) == untied - vocabulary * hidden - vocabulary
