import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retort import shrink
from retort.modeling import attention_projections, encoder_layers
from retort.modeling.anatomy import attention_output, position_projections
from retort.modeling.shrinking.axes import Axis, AxisLabel, Widths, label_axes
from retort.modeling.shrinking.width import plan_widths

INPUTS = {
    "input_ids": torch.arange(5, 35).reshape(2, 15),
    "attention_mask": torch.ones(2, 15, dtype=torch.long),
}
HIDDEN, INTERMEDIATE, ATTENTION, HEADS = (
    AxisLabel(axis) for axis in (Axis.HIDDEN, Axis.INTERMEDIATE, Axis.ATTENTION, Axis.HEADS)
)


def outputs(model):
    with torch.no_grad():
        return model(**INPUTS)[0]


def inflated(small, **sizes):
    """A model twice as wide: every block of channels, units or heads is followed by a faint copy of itself.

    Blocks are as long as a head, so that whole heads are doubled.
    """
    block = small.config.hidden_size // small.config.num_attention_heads
    model = tiny.model(**sizes)
    state = {}
    for name, tensor in small.state_dict().items():
        if name in small.all_tied_weights_keys:
            continue
        target = model.state_dict()[name].shape
        for axis in range(tensor.dim()):
            if target[axis] == tensor.shape[axis]:
                continue
            assert target[axis] == 2 * tensor.shape[axis]
            length = 1 if tensor.shape[axis] == small.config.num_attention_heads else block
            blocks = tensor.unflatten(axis, (-1, length))
            tensor = torch.stack([blocks, 0.1 * blocks], axis + 1).flatten(axis, axis + 2)
        state[name] = tensor
    model.load_state_dict(state, strict=False)
    model.tie_weights()
    return model


@pytest.mark.parametrize("task", tiny.AUTO_CLASSES)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_what_a_wider_teacher_has_in_excess_is_what_goes(family, task):
    small = tiny.model(family, task, layers=4, hidden=16, heads=2, intermediate=24, **factorised(family, 12))
    teacher = inflated(
        small, family=family, task=task, layers=4, hidden=32, heads=4, intermediate=48, **factorised(family, 12)
    )
    student = shrink(teacher, hidden_size=16, num_attention_heads=2, intermediate_size=24, embedding_init="cut")
    assert torch.equal(outputs(student), outputs(small))
    assert not torch.allclose(outputs(student), outputs(tiny.model(family, task, seed=1, layers=4, hidden=16, heads=2)))


def factorised(family, size):
    return {"embedding_size": size} if family == "electra" else {}


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_dropping_feed_forward_units_is_zeroing_what_they_write(family):
    teacher = tiny.model(family, layers=2)
    student = shrink(teacher, intermediate_size=20)
    written = {
        name for name, labels in label_axes(type(teacher), teacher.config).items() if labels[1:] == (INTERMEDIATE,)
    }
    assert len(written) == 2
    with torch.no_grad():
        for name in written:
            kept, all_units = student.get_parameter(name).T, teacher.get_parameter(name).T
            dropped = torch.tensor([not (unit == kept).all(1).any() for unit in all_units])
            assert dropped.sum() == 28
            teacher.get_parameter(name)[:, dropped] = 0
    torch.testing.assert_close(outputs(student), outputs(teacher), rtol=1e-5, atol=1e-5)


def with_constant_heads(family, **sizes):
    """A teacher whose head h makes queries, keys and values with weights h + 1 only, and is read with h + 1."""
    teacher = tiny.model(family, **sizes)
    with torch.no_grad():
        for layer in encoder_layers(teacher):
            for projection in [*attention_projections(layer).values(), *position_projections(layer)]:
                for parameter in projection.parameters():
                    parts = len(parameter) // 32
                    parameter.copy_(_by_head(parameter, parts))
            output = attention_output(layer)
            output.weight.copy_(_by_head(output.weight.T, 1).T)
    return teacher


def _by_head(tensor, parts):
    values = torch.arange(1.0, 5.0).repeat_interleave(8).repeat(parts)
    return values.reshape(-1, *[1] * (tensor.dim() - 1)).expand_as(tensor)


@pytest.mark.parametrize(("hidden", "heads"), [(16, 2), (16, 4), (16, 8), (24, 3), (24, 4), (24, 12), (24, 6), (32, 8)])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_head_never_mixes_two_of_the_teachers(family, hidden, heads):
    if family == "modernbert" and hidden // heads % 2:
        pytest.skip("rotary positions need heads of even size")
    extra = {"share_att_key": False} if family == "deberta-v2" else factorised(family, 12)
    student = shrink(with_constant_heads(family, **extra), hidden_size=hidden, num_attention_heads=heads)
    for layer in encoder_layers(student):
        seen = set()
        for name, projection in attention_projections(layer).items():
            for parameter in projection.parameters():
                seen |= _heads_seen(parameter.unflatten(0, (3 if name == "fused" else 1, heads, -1)))
        for projection in position_projections(layer):
            for parameter in projection.parameters():
                seen |= _heads_seen(parameter.unflatten(0, (1, heads, -1)))
        seen |= _heads_seen(attention_output(layer).weight.T.unflatten(0, (1, heads, -1)))
        (source,) = seen  # all of them, part by part, come from the same heads of the teacher
        assert len(set(source)) == min(heads, 4)
        assert list(source) == sorted(source)


def _heads_seen(parts):
    assert (parts == parts.flatten(2)[..., :1].reshape(*parts.shape[:2], *[1] * (parts.dim() - 2))).all()
    return {tuple(part.flatten(1)[:, 0].tolist()) for part in parts.detach()}


def test_the_bias_of_relative_positions_stays_with_its_head():
    teacher = with_constant_heads("mpnet")
    with torch.no_grad():
        teacher.encoder.relative_attention_bias.weight.copy_(torch.arange(1.0, 5.0).expand(32, 4))
    for heads in (2, 4, 8):
        student = shrink(teacher, hidden_size=16, num_attention_heads=heads)
        values = student.encoder.layer[0].attention.attn.q.weight[:, 0].unflatten(0, (heads, -1))[:, 0]
        assert torch.equal(student.encoder.relative_attention_bias.weight, values.expand(32, heads))


@pytest.mark.parametrize("heads", [4, 8])
def test_narrower_rotary_heads_keep_pairs_and_angles(heads):
    teacher = tiny.model("modernbert", hidden=64, heads=4)  # heads of 16
    with torch.no_grad():
        teacher.layers[0].attn.Wqkv.weight.copy_(torch.arange(192.0)[:, None].expand(192, 64))
    student = shrink(teacher, hidden_size=32, num_attention_heads=heads)
    size = 32 // heads
    rows = student.layers[0].attn.Wqkv.weight[:32, 0].reshape(heads, size).long()
    first, second = rows[:, : size // 2], rows[:, size // 2 :]
    assert torch.equal(second - first, torch.full_like(first, 8))
    angles = teacher.rotary_emb.full_attention_inv_freq[first % 8]
    if heads == 4:
        assert torch.equal(angles, student.rotary_emb.full_attention_inv_freq.expand(4, -1))
    assert rows.unique().numel() == 32


def test_the_channels_with_the_largest_gains_stay():
    teacher = tiny.model("bert")
    strong = torch.arange(32)[1::2]
    with torch.no_grad():
        for name, parameter in teacher.named_parameters():
            if name.endswith("LayerNorm.weight"):
                parameter[strong] = 1.5
    student = shrink(teacher, hidden_size=16, embedding_init="cut")
    for name, tensor in student.state_dict().items():
        if tensor.shape == (16,) and "attention.self" not in name:
            assert torch.equal(tensor, teacher.state_dict()[name][strong])
    words = student.get_input_embeddings().weight
    assert torch.equal(words, teacher.get_input_embeddings().weight[:, strong])


LABELS = {
    "bert": {
        "bert.embeddings.word_embeddings.weight": (None, HIDDEN),
        "bert.embeddings.LayerNorm.weight": (HIDDEN,),
        "bert.encoder.layer.1.attention.self.query.weight": (ATTENTION, HIDDEN),
        "bert.encoder.layer.1.attention.self.value.bias": (ATTENTION,),
        "bert.encoder.layer.1.attention.output.dense.weight": (HIDDEN, ATTENTION),
        "bert.encoder.layer.1.intermediate.dense.bias": (INTERMEDIATE,),
        "bert.encoder.layer.1.output.dense.weight": (HIDDEN, INTERMEDIATE),
        "cls.predictions.bias": (None,),
        "cls.predictions.transform.dense.weight": (HIDDEN, HIDDEN),
    },
    "electra": {
        "electra.embeddings.word_embeddings.weight": (None, None),
        "electra.embeddings_project.weight": (HIDDEN, None),
        "generator_predictions.dense.weight": (None, HIDDEN),
    },
    "mpnet": {
        "mpnet.encoder.relative_attention_bias.weight": (None, HEADS),
        "mpnet.encoder.layer.0.attention.attn.o.weight": (HIDDEN, ATTENTION),
    },
    "deberta-v2": {
        "deberta.encoder.rel_embeddings.weight": (None, HIDDEN),
        "deberta.encoder.LayerNorm.bias": (HIDDEN,),
    },
    "modernbert": {
        "model.layers.0.attn.Wqkv.weight": (AxisLabel(Axis.ATTENTION, 3), HIDDEN),
        "model.layers.0.mlp.Wi.weight": (AxisLabel(Axis.INTERMEDIATE, 2), HIDDEN),
        "model.layers.0.mlp.Wo.weight": (HIDDEN, INTERMEDIATE),
        "decoder.bias": (None,),
    },
}


@pytest.mark.parametrize("family", LABELS)
def test_axes_are_told_apart_even_where_sizes_coincide(family):
    for sizes in ({}, {"hidden": 32, "intermediate": 32, "heads": 4, "vocab_size": 32, "labels": 32}):
        model = tiny.model(family, "masked_lm", **sizes)
        labels = label_axes(type(model), model.config)
        assert labels.keys() == model.state_dict().keys()
        for name, expected in LABELS[family].items():
            assert labels[name] == expected


def test_factorised_embeddings_half_or_twice_as_wide_as_the_hidden_states_are_told_apart():
    for size in (16, 64):
        model = tiny.model("electra", embedding_size=size)
        assert label_axes(type(model), model.config)["embeddings_project.weight"] == (HIDDEN, None)
        student = shrink(model, hidden_size=24)
        assert (student.config.embedding_size, student.config.hidden_size) == (size, 24)
        assert torch.equal(student.get_input_embeddings().weight, model.get_input_embeddings().weight)


def test_embeddings_as_wide_as_the_hidden_states_stay_so():
    student = shrink(tiny.model("electra", embedding_size=32), hidden_size=16)
    assert student.config.embedding_size == student.get_input_embeddings().embedding_dim == 16
    student = shrink(tiny.model("deberta-v2", "sequence"), hidden_size=16)
    assert student.config.pooler_hidden_size == 16


def test_debertas_convolution_is_narrowed_too():
    sizes = {"conv_kernel_size": 3, "conv_act": "gelu"}
    student = shrink(tiny.model("deberta-v2", **sizes), hidden_size=16)
    assert student.encoder.conv.conv.weight.shape == (16, 16, 3)
    assert outputs(student).isfinite().all()
    with pytest.raises(
        ValueError, match=r"Can't narrow DebertaV2Model: axis 1 of encoder.conv.conv.weight \[32, 16, 3\]"
    ):
        shrink(tiny.model("deberta-v2", conv_groups=2, **sizes), hidden_size=16)


TEACHER = Widths(hidden_size=384, intermediate_size=1536, num_attention_heads=12)


@pytest.mark.parametrize(
    ("asked", "heads"),
    [
        ({}, 12),
        ({"hidden_size": 256}, 8),  # heads of 32, as the teacher's
        ({"hidden_size": 264}, 12),  # as many heads
        ({"hidden_size": 300, "num_attention_heads": 10}, 10),
        ({"num_attention_heads": 24}, 24),
        ({"intermediate_size": 7}, 12),
    ],
)
def test_heads_keep_the_teachers_size_else_their_number(asked, heads):
    assert plan_widths(TEACHER, **asked).num_attention_heads == heads


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"hidden_size": 385}, "hidden_size=385, but for this teacher it must be 1 to 384"),
        ({"hidden_size": 0}, "must be 1 to 384"),
        ({"intermediate_size": 1537}, "intermediate_size=1537, but for this teacher it must be 1 to 1536"),
        ({"hidden_size": 250}, r"neither into heads of the teacher's size \(32\) .* \(12\)\. .* such as 224 or 256"),
        ({"hidden_size": 10}, "such as 32"),
        ({"hidden_size": 16, "num_attention_heads": 32}, "doesn't fit hidden_size=16.* Possible: 1, 2, 4, 8, 16"),
        ({"hidden_size": 256, "num_attention_heads": 7}, "it must divide hidden_size"),
        (
            {"num_attention_heads": 6},
            "cut from one of the teacher's 12 heads of size 32. Possible: 12, 24, 48, 96, 192, 384",
        ),
        ({"hidden_size": 360, "num_attention_heads": 15}, "num_attention_heads=15 doesn't fit"),
        ({"num_attention_heads": 0}, "num_attention_heads=0 doesn't fit"),
    ],
)
def test_sizes_that_cannot_be_had_are_an_error_that_says_which_can(asked, message):
    with pytest.raises(ValueError, match=message):
        plan_widths(TEACHER, **asked)


@pytest.mark.promise(9)
def test_a_width_that_the_architecture_rejects_is_an_error_with_its_reason():
    with pytest.raises(
        ValueError, match=r"ModernBertModel rejects .*hidden_size=12, num_attention_heads=4.*even one"
    ) as error:
        shrink(tiny.model("modernbert"), hidden_size=12, num_attention_heads=4)
    assert isinstance(error.value.__cause__, RuntimeError)


@pytest.mark.promise(9)
def test_losing_the_projection_of_factorised_embeddings_is_an_error():
    with pytest.raises(ValueError, match=r"embeddings_project.weight would be \[16, 16\].*choose another hidden_size"):
        shrink(tiny.model("electra"), hidden_size=16)


@settings(max_examples=15)
@given(
    teacher_heads=st.sampled_from([1, 2, 3, 4]),
    heads=st.integers(1, 12),
    head_size=st.integers(1, 8),
    intermediate=st.integers(1, 48),
)
def test_every_student_is_either_refused_or_cut_out_of_whole_heads(teacher_heads, heads, head_size, intermediate):
    teacher = tiny.model("bert", layers=1, hidden=8 * teacher_heads, heads=teacher_heads)
    asked = {"hidden_size": heads * head_size, "num_attention_heads": heads, "intermediate_size": intermediate}
    fits = heads <= teacher_heads * (8 // head_size)
    if not fits:
        with pytest.raises(ValueError, match="hidden_size"):
            shrink(teacher, **asked)
        return
    student = shrink(teacher, **asked)
    assert Widths.of(student.config) == Widths(**asked)
    assert outputs(student).isfinite().all()
    before, after = (model.encoder.layer[0].attention.self.value.weight for model in (teacher, student))
    if before.shape[1] == after.shape[1]:  # no column is cut: the student's rows are rows of the teacher's
        sources = [(before == row).all(1).nonzero().item() for row in after]
        assert len(set(sources)) == len(sources)
        assert all(len({i // 8 for i in sources[n : n + head_size]}) == 1 for n in range(0, len(sources), head_size))
