"""Which parameters are in which group, for every family; and what gradual unfreezing makes of them."""

import pytest
import tiny
import torch

from retort.modeling import add_projector
from retort.trainers.stages.groups import parameter_groups, resolve_groups, train_only, unfreezing_order

GROUPS = ("head", "projector", "layer.1", "layer.0", "embeddings")


@pytest.mark.parametrize("task", ["token", "sequence"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_parameter_is_in_one_group_and_groups_run_from_the_top_down(family, task):
    model = tiny.model(family, task)
    add_projector(model, 48)
    groups = parameter_groups(model)
    assert tuple(groups) == GROUPS
    together = [id(parameter) for parameters in groups.values() for parameter in parameters]
    assert len(together) == len(set(together))
    assert set(together) == {id(parameter) for parameter in model.parameters()}
    assert any(p is model.get_input_embeddings().weight for p in groups["embeddings"])
    assert {tuple(p.shape) for p in groups["projector"]} == {(48, 32), (48,)}
    assert (3, 48) in {tuple(p.shape) for p in groups["head"]}


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_model_without_a_projector_has_no_such_group(family):
    assert tuple(parameter_groups(tiny.model(family, "token"))) == ("head", "layer.1", "layer.0", "embeddings")


def test_a_bare_encoder_s_pooler_is_its_head():
    assert [tuple(p.shape) for p in parameter_groups(tiny.model("bert"))["head"]] == [(32, 32), (32,)]


def test_debertas_convolution_and_its_norm_of_positions_are_no_head():
    model = tiny.model("deberta-v2", "token", conv_kernel_size=3, conv_act="gelu")
    groups = {name: set(map(id, parameters)) for name, parameters in parameter_groups(model).items()}
    for part in (model.deberta.encoder.conv, model.deberta.encoder.LayerNorm, model.deberta.encoder.rel_embeddings):
        assert set(map(id, part.parameters())) <= groups["embeddings"]
    assert groups["head"] == {id(model.classifier.weight), id(model.classifier.bias)}


def test_a_final_norm_is_in_the_head():
    model = tiny.model("modernbert")
    assert any(p is model.final_norm.weight for p in parameter_groups(model)["head"])


def test_an_output_layer_tied_to_the_words_is_frozen_with_them():
    model = tiny.model("bert", "masked_lm")
    train_only(model, ["head"])
    assert not model.get_output_embeddings().weight.requires_grad
    assert model.cls.predictions.transform.dense.weight.requires_grad


def test_the_encoder_is_all_layers_and_the_embeddings():
    assert resolve_groups(["encoder", "head"], GROUPS) == ("head", "layer.1", "layer.0", "embeddings")


@pytest.mark.promise(9)
def test_an_unknown_group_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"no group of parameters called 'pooler'.*head, projector, layer\.1"):
        resolve_groups(["pooler"], GROUPS)


def test_unfreezing_starts_at_the_head_and_keeps_what_was_unfrozen():
    assert unfreezing_order(GROUPS, "encoder") == [GROUPS[:1], GROUPS[:2], GROUPS]
    assert unfreezing_order(GROUPS, "layers") == [GROUPS[: n + 1] for n in range(5)]


def test_only_the_groups_named_learn():
    model = tiny.model("bert", "token")
    train_only(model, ["head", "embeddings"], freeze_words=True)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning == {
        "classifier.weight",
        "classifier.bias",
        "bert.embeddings.position_embeddings.weight",
        "bert.embeddings.token_type_embeddings.weight",
        "bert.embeddings.LayerNorm.weight",
        "bert.embeddings.LayerNorm.bias",
    }
    train_only(model, ["encoder"])
    assert torch.tensor([p.requires_grad for p in model.bert.parameters()]).all()
    assert not model.classifier.weight.requires_grad
