import copy
from itertools import pairwise

import pytest
import tiny
import torch
from torch import nn

from retort import shrink
from retort.modeling import encoder_layers, layers_name, split_layer_name
from retort.modeling.shrinking.depth import layer_groups

INPUTS = {
    "input_ids": torch.arange(5, 35).reshape(2, 15),
    "attention_mask": torch.ones(2, 15, dtype=torch.long),
}


def outputs(model):
    with torch.no_grad():
        return model(**INPUTS)[0]


def with_layers_removed(teacher, kept):
    """The reference: a copy of the teacher that runs these of its layers."""
    model = copy.deepcopy(teacher)
    layers = encoder_layers(model)
    parent, name = layers_name(model).rpartition(".")[::2]
    setattr(model.get_submodule(parent), name, nn.ModuleList([layers[i] for i in kept]))
    model.config.num_hidden_layers = len(kept)
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [model.config.layer_types[i] for i in kept]
    return model


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("task", tiny.AUTO_CLASSES)
def test_chosen_layers_compute_as_the_teacher_without_the_others(family, task):
    teacher = tiny.model(family, task, layers=5)
    student = shrink(teacher, layers=[0, 4, 3])
    reference = outputs(with_layers_removed(teacher, [0, 4, 3]))
    assert torch.equal(outputs(student), reference)
    assert not torch.allclose(reference, outputs(with_layers_removed(teacher, [0, 3, 4])), atol=1e-4)


@pytest.mark.parametrize(
    ("layers", "depth", "kept"),
    [
        (3, 6, [0, 2, 5]),
        (6, 12, [0, 2, 4, 6, 8, 11]),
        (2, 12, [0, 11]),
        (1, 6, [0]),
        (6, 6, [0, 1, 2, 3, 4, 5]),
        (range(3), 6, [0, 1, 2]),
        (range(-3, 0), 6, [3, 4, 5]),
        ([4, 0, -1], 6, [4, 0, 5]),
        ((1,), 2, [1]),
    ],
)
def test_layers_are_chosen_by_number_or_by_name(layers, depth, kept):
    assert layer_groups(layers, "select", depth) == [(i,) for i in kept]


def test_evenly_spaced_layers_are_distinct_and_hold_the_first_and_the_last():
    for depth in range(2, 30):
        for count in range(2, depth + 1):
            kept = [i for (i,) in layer_groups(count, "select", depth)]
            gaps = {b - a for a, b in pairwise(kept)}
            assert (kept[0], kept[-1], len(kept)) == (0, depth - 1, count)
            assert min(gaps) >= 1
            assert max(gaps) - min(gaps) <= 1


def test_averaging_cuts_the_teacher_into_runs_that_differ_by_one_layer_at_most():
    assert layer_groups(3, "average", 6) == [(0, 1), (2, 3), (4, 5)]
    assert layer_groups(4, "average", 6) == [(0,), (1, 2), (3,), (4, 5)]
    for depth in range(1, 30):
        for count in range(1, depth + 1):
            groups = layer_groups(count, "average", depth)
            assert [i for group in groups for i in group] == list(range(depth))
            assert {len(group) for group in groups} <= {depth // count, depth // count + 1}


@pytest.mark.parametrize("family", ["bert", "distilbert", "mpnet", "deberta-v2"])
def test_averaged_layers_are_the_mean_of_their_runs(family):
    teacher = tiny.model(family, "token", layers=5)
    weights, prefix = teacher.state_dict(), layers_name(teacher)
    student = shrink(teacher, layers=2, layer_init="average")
    for name, tensor in student.state_dict().items():
        position, part = split_layer_name(name, prefix)
        if position is None:
            assert torch.equal(tensor, weights[name])
            continue
        run = [[0, 1], [2, 3, 4]][position]
        mean = torch.stack([weights[f"{prefix}.{i}.{part}"].double() for i in run]).mean(0)
        torch.testing.assert_close(tensor.double(), mean, rtol=0, atol=1e-7)


def test_an_averaged_layer_attends_as_the_first_of_its_run():
    teacher = tiny.model("modernbert", layers=6)
    assert teacher.config.layer_types == ["full_attention", "sliding_attention", "sliding_attention"] * 2
    student = shrink(teacher, layers=3, layer_init="average")
    assert student.config.layer_types == ["full_attention", "sliding_attention", "sliding_attention"]
    assert [layer.attention_type for layer in student.layers] == student.config.layer_types


@pytest.mark.promise(9)
@pytest.mark.parametrize("layers", [[2, 0], [1, 2]])
def test_a_layer_that_does_not_fit_into_its_place_is_refused(layers):
    message = r"has no place for the teacher's layers.0.attn_norm.weight: .* Keep layer 0 as the first"
    with pytest.raises(ValueError, match=message):
        shrink(tiny.model("modernbert", layers=3), layers=layers)


def test_an_averaged_layer_has_the_weights_that_the_first_of_its_run_has():
    teacher = tiny.model("modernbert", layers=4)
    student = shrink(teacher, layers=2, layer_init="average")
    assert isinstance(student.layers[0].attn_norm, nn.Identity)
    mean = (teacher.layers[2].attn_norm.weight + teacher.layers[3].attn_norm.weight) / 2
    torch.testing.assert_close(student.layers[1].attn_norm.weight, mean)


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": [0, 12]}, r"names layer 12, but the teacher's 4 layers are 0 to 3"),
        ({"layers": [-5]}, r"names layer -5, but .* \(or -4 to -1"),
        ({"layers": []}, "names no layer"),
        ({"layers": [1, 1]}, "names a layer twice"),
        ({"layers": [3, -1]}, "names a layer twice"),
        ({"layers": 5}, "layers=5, but a student of this teacher has 1 to 4 layers"),
        ({"layers": 0}, "has 1 to 4 layers"),
        ({"layers": "first:2"}, r"'first:2' is neither a number .* range\(k\) names the first k"),
        ({"layers": [0], "layer_init": "average"}, "needs their number: layers=k, 1 to 4"),
        ({"layers": 2, "layer_init": "middle"}, "Unknown layer_init='middle'. Choose one of select, average"),
    ],
)
def test_layers_that_cannot_be_had_are_an_error_that_says_which_can(arguments, message):
    with pytest.raises(ValueError, match=message):
        shrink(tiny.model("bert", layers=4), **arguments)


@pytest.mark.promise(9)
def test_a_copy_that_is_none_is_not_told_to_take_fewer_layers():
    teacher = tiny.model("bert")
    with torch.no_grad():
        teacher.embeddings.register_forward_hook(lambda module, args, output: output + 1)
        with pytest.raises(ValueError, match=r"all layers of BertModel has other outputs.*configuration matches"):
            shrink(teacher)
        with pytest.raises(ValueError, match=r"layers 1 of BertModel .* Try the first ones \(layers=range\(k\)\)"):
            shrink(teacher, layers=[1])
        with pytest.raises(ValueError, match=r"layers 0 of BertModel .* on all layers\. Keep all layers\.$"):
            shrink(teacher, layers=range(1))
