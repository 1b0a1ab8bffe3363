import copy
import json
import os

import pytest
import tiny
import torch
from ranks import run_on_ranks
from transformers import AutoModel, BertForMaskedLM, BertModel

from retort import shrink

INPUTS = {
    "input_ids": torch.arange(5, 35).reshape(2, 15),
    "attention_mask": torch.tensor([[1] * 15, [1] * 9 + [0] * 6]),
}


def outputs(model):
    with torch.no_grad():
        return model(**INPUTS)[0]


def sizes(family):
    """Narrower than the tiny teachers, and not as narrow as ELECTRA's factorised embeddings."""
    return {"layers": 2, "hidden_size": 24 if family == "electra" else 16, "intermediate_size": 20}


@pytest.mark.parametrize("task", tiny.AUTO_CLASSES)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_student_as_deep_and_wide_as_its_teacher_computes_the_same(family, task):
    teacher = tiny.model(family, task, layers=3)
    expected = outputs(teacher)
    for asked in (
        {},
        {"layers": 3},
        {"layers": 3, "layer_init": "average"},
        {"hidden_size": 32, "intermediate_size": 48},
    ):
        student = shrink(teacher, **asked)
        assert type(student) is type(teacher)
        assert torch.equal(outputs(student), expected)


@pytest.mark.promise(5)
@pytest.mark.parametrize("task", tiny.AUTO_CLASSES)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_student_is_described_by_its_configuration(family, task, tmp_path):
    student = shrink(tiny.model(family, task, layers=4), **sizes(family))
    expected = outputs(student)
    assert expected.isfinite().all()
    student.save_pretrained(tmp_path)
    loaded, report = type(student).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert torch.equal(outputs(loaded), expected)
    assert outputs(AutoModel.from_pretrained(tmp_path)).shape[-1] == student.config.hidden_size


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_parameter_of_a_narrow_student_learns(family):
    student = shrink(tiny.model(family, "token", layers=4), **sizes(family)).train()
    student(**INPUTS, labels=torch.ones(2, 15, dtype=torch.long)).loss.backward()
    untouched = {name for name, parameter in student.named_parameters() if parameter.grad is None}
    assert not untouched
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in student.parameters())


@pytest.mark.promise(1)
@pytest.mark.parametrize("asked", [{}, {"layers": 2}, {"layers": 2, "layer_init": "average", "hidden_size": 16}])
def test_training_the_student_never_moves_the_teacher(asked):
    teacher = tiny.model("bert", "masked_lm", layers=4).train()
    teacher.requires_grad_(False)
    weights, config, state = copy.deepcopy(teacher.state_dict()), copy.deepcopy(teacher.config), torch.get_rng_state()
    student = shrink(teacher, **asked)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1)
    student.config.hidden_dropout_prob = 0.9
    for name, tensor in teacher.state_dict().items():
        assert torch.equal(tensor, weights[name])
    assert teacher.config.to_dict() == config.to_dict()
    assert teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in teacher.modules())


def test_a_half_precision_teacher_in_eager_mode_gives_a_student_of_float32_in_eager_mode():
    teacher = tiny.model("bert", attn_implementation="eager").to(torch.bfloat16)
    student = shrink(teacher, layers=1)
    assert student.dtype == student.config.dtype == torch.float32
    assert student.config._attn_implementation == "eager"
    assert torch.equal(student.pooler.dense.weight, teacher.pooler.dense.weight.float())


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_tied_weights_stay_tied(family):
    student = shrink(tiny.model(family, "masked_lm", layers=3), **sizes(family))
    assert student.get_output_embeddings().weight is student.get_input_embeddings().weight
    assert student.all_tied_weights_keys


def test_weights_that_differ_though_the_configuration_ties_them_are_both_kept():
    teacher = tiny.model("bert", "masked_lm")
    teacher.cls.predictions.decoder.weight = torch.nn.Parameter(torch.randn(tiny.VOCAB_SIZE, 32))
    assert torch.equal(outputs(shrink(teacher)), outputs(teacher))


@pytest.mark.parametrize("asked", [{}, {"hidden_size": 16}])
def test_frozen_embeddings_are_the_only_parameters_that_do_not_learn(asked):
    student = shrink(tiny.model("bert", "masked_lm"), freeze_embeddings=True, **asked)
    frozen = [name for name, parameter in student.named_parameters() if not parameter.requires_grad]
    assert frozen == ["bert.embeddings.word_embeddings.weight"]


def test_a_teacher_is_loaded_with_the_head_that_it_was_saved_with(tmp_path):
    teacher = tiny.model("bert", "masked_lm", layers=3)
    teacher.to(torch.bfloat16).save_pretrained(tmp_path)
    student = shrink(tmp_path, layers=2)
    assert type(student) is BertForMaskedLM
    assert student.dtype == torch.float32
    assert student.config.name_or_path == ""
    assert torch.equal(outputs(student), outputs(shrink(teacher, layers=2)))


def without_architectures(model, folder):
    """Save a model with a configuration that names no class."""
    model.save_pretrained(folder)
    file = folder / "config.json"
    entries = json.loads(file.read_text())
    del entries["architectures"]
    file.write_text(json.dumps(entries))


def test_a_folder_that_names_no_architecture_holds_a_bare_encoder(tmp_path):
    teacher = tiny.model("bert", layers=3)
    without_architectures(teacher, tmp_path)
    assert torch.equal(outputs(shrink(tmp_path, layers=2)), outputs(shrink(teacher, layers=2)))


@pytest.mark.promise(9)
def test_a_folder_whose_head_no_architecture_names_is_an_error(tmp_path):
    without_architectures(tiny.model("distilbert", "masked_lm"), tmp_path)
    with pytest.raises(ValueError, match=r"names no architecture, .* \(unexpected keys: vocab_.* Load the"):
        shrink(tmp_path)


@pytest.mark.promise(9)
def test_a_folder_that_names_an_unknown_architecture_is_an_error(tmp_path):
    config = tiny.config("bert")
    config.architectures = ["BertForEverything"]
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"names BertForEverything as its architecture.*Load the teacher yourself"):
        shrink(tmp_path)


def test_a_folder_without_weights_is_an_error(tmp_path):
    config = tiny.config("bert")
    config.architectures = ["BertModel"]
    config.save_pretrained(tmp_path)
    with pytest.raises(OSError, match=r"model\.safetensors"):
        shrink(str(tmp_path))


def test_a_module_that_is_no_transformers_model_is_an_error():
    with pytest.raises(TypeError, match="The teacher is a Linear, but shrink needs a transformers PreTrainedModel"):
        shrink(torch.nn.Linear(2, 2))


def test_a_teacher_that_its_configuration_does_not_describe_is_an_error():
    teacher = tiny.model("bert", "token")
    teacher.classifier = torch.nn.Linear(32, 7)
    with pytest.raises(
        ValueError, match=r"classifier.weight would be \[7, 32\], .* BertForTokenClassification has \[3, 32\]"
    ):
        shrink(teacher)


def test_an_unknown_way_to_make_embeddings_is_an_error_even_at_full_width():
    with pytest.raises(ValueError, match=r"Unknown embedding_init='lsa'\. Choose one of svd, pca, cut"):
        shrink(tiny.model("bert"), embedding_init="lsa")


def test_a_part_that_the_teacher_lacks_is_initialised_as_the_architecture_does():
    teacher = BertModel(tiny.config("bert"), add_pooling_layer=False).eval()
    student = shrink(teacher)
    assert torch.equal(outputs(student), outputs(teacher))
    assert student.pooler.dense.bias.count_nonzero() == 0


def test_a_teacher_sharded_by_zero_3_gives_the_same_student(tmp_path):
    teacher = tiny.model("bert", "token", layers=4)
    teacher.save_pretrained(tmp_path)
    expected = shrink(teacher, layers=2, hidden_size=16)
    assert run_on_ranks(shrink_sharded_teacher, 2, folder=str(tmp_path)) == [0, 0]
    found = torch.load(tmp_path / "student.pt", weights_only=True)
    assert found.keys() == expected.state_dict().keys()
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-6)


def shrink_sharded_teacher(folder):
    import deepspeed
    from transformers import BertForTokenClassification
    from transformers.integrations import HfDeepSpeedConfig

    deepspeed.init_distributed()
    keep = HfDeepSpeedConfig({"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3}})
    teacher = BertForTokenClassification.from_pretrained(folder)
    assert all(parameter.numel() == 0 for parameter in teacher.parameters())
    student = shrink(teacher, layers=2, hidden_size=16)
    assert all(parameter.numel() == 0 for parameter in teacher.parameters())
    with deepspeed.zero.GatheredParameters(list(student.parameters())):
        state = {name: tensor.detach().clone() for name, tensor in student.state_dict().items()}
    if os.environ["RANK"] == "0":
        torch.save(state, f"{folder}/student.pt")
    del keep
