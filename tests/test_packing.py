"""A packed batch gives what the padded batch gives: outputs, gradients, windows, heads and dtypes."""

import pytest
import tiny
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AlbertConfig, AutoConfig, AutoModel, AutoModelForTokenClassification

from retort.modeling.encoding import (
    OutputRequest,
    Packing,
    TokenLayout,
    enable_packing,
    encode,
    position_offset,
    supports_packing,
)
from retort.modeling.encoding.attention import GRANULE, rounded_up

PACKABLE = ("bert", "roberta", "xlm-roberta", "distilbert", "electra", "modernbert", "albert")
LENGTHS = [2, 5, 5, 5, 11, 17]


def make(family, task="encoder", **sizes):
    if family != "albert":
        return tiny.model(family, task, **sizes)
    torch.manual_seed(0)
    config = AlbertConfig(
        vocab_size=tiny.VOCAB_SIZE,
        embedding_size=16,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        num_labels=3,
        **sizes,
    )
    return tiny.AUTO_CLASSES[task].from_config(config).eval()


def views(model, lengths=LENGTHS, seed=1):
    """The same random rows, packed and padded."""
    packed = TokenLayout.from_lengths(lengths, packed=True)
    padded = TokenLayout.from_lengths(lengths, packed=False)
    token_ids = torch.randint(5, tiny.VOCAB_SIZE, (packed.tokens,), generator=torch.Generator().manual_seed(seed))
    packed_inputs = {
        "input_ids": token_ids[None],
        "position_ids": (packed.positions + position_offset(model))[None],
        "attention_mask": Packing.from_layout(packed),
    }
    padded_inputs = {
        "input_ids": padded.pad(token_ids, model.config.pad_token_id),
        "attention_mask": padded.mask.long(),
    }
    return (packed, packed_inputs), (padded, padded_inputs)


def gradients(model, output, weight):
    """Gradients of one weighted sum of a flat output, by parameter name."""
    model.zero_grad()
    (output * weight).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.promise(4)
@pytest.mark.parametrize("task", ["encoder", "token", "masked_lm"])
@pytest.mark.parametrize("family", PACKABLE)
def test_packed_outputs_and_gradients_equal_the_padded_models(family, task):
    model = make(family, task)
    (packed, packed_inputs), (padded, padded_inputs) = views(model)
    field = "last_hidden_state" if task == "encoder" else "logits"
    expected = padded.flatten(getattr(model(**padded_inputs), field))
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    expected_gradients = gradients(model, expected, weight)

    enable_packing(model)
    output = packed.flatten(getattr(model(**packed_inputs), field))
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=5e-6)
    for name, gradient in gradients(model, output, weight).items():
        scale = expected_gradients[name].abs().max().clamp(min=1)
        assert (gradient - expected_gradients[name]).abs().max() <= 1e-5 * scale, name


@pytest.mark.parametrize("family", PACKABLE)
def test_hidden_states_of_every_layer_are_packed_and_equal(family):
    model = make(family)
    (packed, packed_inputs), (padded, padded_inputs) = views(model)
    expected = model(**padded_inputs, output_hidden_states=True).hidden_states
    enable_packing(model)
    states = model(**packed_inputs, output_hidden_states=True).hidden_states
    assert len(states) == len(expected)
    for state, reference in zip(states, expected, strict=True):
        torch.testing.assert_close(packed.flatten(state), padded.flatten(reference), rtol=1e-5, atol=5e-6)


@pytest.mark.promise(4)
@pytest.mark.parametrize("family", PACKABLE)
def test_a_tail_makes_shapes_come_back_and_changes_nothing(family):
    model = make(family)
    enable_packing(model)
    (packed, inputs), _ = views(model)
    filled = rounded_up(inputs)
    assert {tensor.shape for name, tensor in filled.items() if name != "attention_mask"} == {(1, GRANULE)}
    weight = torch.randn(packed.tokens, 32, generator=torch.Generator().manual_seed(2))
    expected = packed.flatten(model(**inputs).last_hidden_state)
    expected_gradients = gradients(model, expected, weight)
    output = packed.flatten(model(**filled).last_hidden_state)
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=5e-6)
    for name, gradient in gradients(model, output, weight).items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-4, atol=1e-5)


def test_rows_do_not_see_each_other():
    model = make("bert")
    enable_packing(model)
    (packed, inputs), _ = views(model)
    before = packed.flatten(model(**inputs).last_hidden_state)
    changed = inputs["input_ids"].clone()
    changed[0, packed.starts[3] : packed.starts[4]] = 7
    after = packed.flatten(model(**inputs | {"input_ids": changed}).last_hidden_state)
    same = (before == after).all(-1)
    assert torch.equal(same, packed.row_ids != 3)


def test_local_attention_keeps_its_window_inside_each_row():
    # Rows of 30 tokens against a window of 4 to each side: without the window the outputs differ.
    model = make("modernbert", layers=4)
    assert {layer.attn.sliding_window for layer in model.layers} == {None, 5}
    (packed, packed_inputs), (padded, padded_inputs) = views(model, [3, 5, 6, 30, 30])
    expected = padded.flatten(model(**padded_inputs).last_hidden_state)
    enable_packing(model)
    output = packed.flatten(model(**packed_inputs).last_hidden_state)
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=5e-6)
    for layer in model.layers:
        layer.attn.sliding_window = None
    assert (packed.flatten(model(**packed_inputs).last_hidden_state) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
def test_padded_calls_still_work_and_equal_sdpa_bitwise(family):
    model = make(family)
    _, (_, inputs) = views(model)
    expected = model(**inputs).last_hidden_state
    enable_packing(model)
    assert torch.equal(model(**inputs).last_hidden_state, expected)


def test_the_attention_is_not_saved_with_the_model(tmp_path):
    model = make("bert", "token")
    enable_packing(model)
    model.save_pretrained(tmp_path)
    assert "retort" not in (tmp_path / "config.json").read_text()
    loaded = AutoModelForTokenClassification.from_pretrained(tmp_path)
    _, (_, inputs) = views(model)
    torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_bf16_autocast_works_forwards_and_backwards(family):
    model = make(family)
    (packed, packed_inputs), (padded, padded_inputs) = views(model)
    expected = padded.flatten(model(**padded_inputs).last_hidden_state)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    expected_gradients = gradients(model, expected, weight)
    enable_packing(model)
    with torch.autocast("cpu", torch.bfloat16):
        output = packed.flatten(model(**packed_inputs).last_hidden_state)
    assert (output - expected).norm() < 0.05 * expected.norm()
    for name, gradient in gradients(model, output, weight).items():
        # A key's bias moves all scores of a query alike, which softmax undoes: its gradient is zero, and here the
        # rounding of gradients as large as the query's bias has.
        scale = expected_gradients[name.replace("key.bias", "query.bias")].norm()
        assert (gradient - expected_gradients[name]).norm() < 0.05 * scale, name


def test_attention_dropout_is_applied_in_training_only():
    model = make("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.5)
    enable_packing(model)
    (_, inputs), _ = views(model)
    assert torch.equal(model(**inputs).last_hidden_state, model(**inputs).last_hidden_state)
    model.train()
    assert not torch.allclose(model(**inputs).last_hidden_state, model(**inputs).last_hidden_state)


def test_rows_in_any_order_give_the_same_result_as_sorted_rows():
    model = make("bert")
    enable_packing(model)
    (packed, packed_inputs), (padded, padded_inputs) = views(model, [7, 2, 7, 3, 3, 9])
    assert packed_inputs["attention_mask"].runs == ((1, 7), (1, 2), (1, 7), (2, 3), (1, 9))
    output = packed.flatten(model(**packed_inputs).last_hidden_state)
    torch.testing.assert_close(output, padded.flatten(model(**padded_inputs).last_hidden_state), rtol=1e-5, atol=5e-6)


def test_activation_checkpointing_gives_the_same_gradients():
    model = make("bert")
    enable_packing(model)
    (packed, inputs), _ = views(model)
    weight = torch.randn(packed.tokens, 32)
    expected = gradients(model, packed.flatten(model(**inputs).last_hidden_state), weight)
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.gradient_checkpointing_enable()
    checkpointed = gradients(model, packed.flatten(model(**inputs).last_hidden_state), weight)
    for name, gradient in expected.items():
        torch.testing.assert_close(checkpointed[name], gradient)


@pytest.mark.parametrize("family", PACKABLE)
def test_supports_packing_says_yes_and_leaves_the_model_alone(family):
    model = make(family)
    model.train()
    next(model.children()).eval()
    modes = [module.training for module in model.modules()]
    random_state = torch.get_rng_state()
    assert supports_packing(model)
    assert [module.training for module in model.modules()] == modes
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("family", ["mpnet", "deberta-v2"])
def test_supports_packing_says_no_to_attention_of_their_own(family):
    model = make(family)
    assert not supports_packing(model)
    with pytest.raises(ValueError, match=r"can't take packed batches.*packed=False"):
        enable_packing(model)


@pytest.mark.parametrize("model_type", ["mobilebert", "gpt2", "t5"])
def test_supports_packing_says_no_where_tokens_mix_outside_attention_or_look_one_way(model_type):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = AutoConfig.for_model(model_type, vocab_size=tiny.VOCAB_SIZE, **sizes)
    assert not supports_packing(AutoModel.from_config(config))


@pytest.mark.parametrize(
    ("family", "padding", "offset"),
    [("bert", 0, 0), ("modernbert", 0, 0), ("roberta", 0, 1), ("roberta", 1, 2), ("xlm-roberta", 1, 2)],
)
def test_position_offset_is_read_off_the_position_table(family, padding, offset):
    model = tiny.model(family, "token", pad_token_id=padding)
    assert position_offset(model) == offset
    assert supports_packing(model)
    assert position_offset(model.base_model) == offset


@pytest.mark.promise(9)
@pytest.mark.parametrize("implementation", ["sdpa", "eager", "flex_attention"])
@pytest.mark.parametrize("family", [*PACKABLE, "mpnet", "deberta-v2"])
def test_a_model_that_is_not_ready_refuses_packed_batches(family, implementation):
    model = make(family)
    if family not in ("mpnet", "deberta-v2"):  # whose attention is their own
        model.set_attn_implementation(implementation)
    (_, inputs), _ = views(model)
    with pytest.raises(AttributeError, match=r"isn't ready for packed batches.*encode\(\).*enable_packing"):
        model(**inputs)


@pytest.mark.promise(9)
@pytest.mark.parametrize("family", ["mpnet", "deberta-v2"])
def test_encode_refuses_packed_batches_of_a_model_that_can_not_take_them(family):
    model = make(family)
    (packed, inputs), _ = views(model)
    with pytest.raises(ValueError, match=r"can't take packed batches.*attention_backend='padded'"):
        encode(model, inputs, packed, OutputRequest(pooler="mean"))


@pytest.mark.promise(9)
def test_a_layout_of_another_form_than_the_inputs_is_refused():
    model = make("bert")
    (packed, inputs), (padded, _) = views(model)
    with pytest.raises(
        ValueError, match="layout is that of a packed batch, but the attention_mask of the inputs is no Packing"
    ):
        encode(model, {"input_ids": inputs["input_ids"]}, packed, OutputRequest(pooler="mean"))
    with pytest.raises(
        ValueError, match="layout is that of a padded batch, but the attention_mask of the inputs is a Packing"
    ):
        encode(model, inputs, padded, OutputRequest(pooler="mean"))


def test_a_packing_of_another_batch_is_an_error():
    model = make("bert")
    enable_packing(model)
    (_, inputs), (_, padded_inputs) = views(model)
    other = Packing.from_layout(TokenLayout.from_lengths([4, 4], packed=True))
    with pytest.raises(ValueError, match="one row of 8 tokens, but attention got 1 rows of 45"):
        model(**inputs | {"attention_mask": other})
    with pytest.raises(ValueError, match="but attention got 6 rows of 17"):
        model(**padded_inputs | {"attention_mask": inputs["attention_mask"]})


def test_attention_equals_a_dense_block_diagonal_mask_in_float64():
    # The same packed tokens under one [tokens, tokens] mask: the definition, written without rows.
    model = make("bert").double()
    enable_packing(model)
    (packed, inputs), _ = views(model)
    seen = []

    def record(module, arguments, output):
        seen.append((module, arguments[0], output[0]))

    for layer in model.encoder.layer:
        layer.attention.self.register_forward_hook(record)
    model(**inputs)
    together = packed.row_ids[:, None] == packed.row_ids
    for module, hidden, output in seen:
        heads = [
            linear(hidden).unflatten(-1, (4, 8)).transpose(1, 2) for linear in (module.query, module.key, module.value)
        ]
        expected = scaled_dot_product_attention(*heads, attn_mask=together).transpose(1, 2).flatten(2)
        torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
