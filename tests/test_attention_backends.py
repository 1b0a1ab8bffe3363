"""`varlen`, `runs` and `padded` attend alike, each model gets the one that suits it, and its own one back."""

import math

import pytest
import tiny
import torch
from datasets import Dataset
from test_packing import LENGTHS, PACKABLE, gradients, make, views
from torch._dynamo.testing import CompileCounter
from transformers import AutoModel, EuroBertConfig
from transformers.masking_utils import create_bidirectional_sliding_window_mask

from retort import DistillTrainer, shrink
from retort.data.tokenization import tokenize
from retort.modeling.encoding import (
    AttentionSettings,
    OutputRequest,
    Packing,
    TokenLayout,
    attending,
    enable_packing,
    encode,
    supports_packing,
)
from retort.modeling.encoding.attention import GRANULE, interface, rounded_up, runs, varlen

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
TOP = OutputRequest(hidden_states=frozenset({2}))


def grouped(heads=2):
    """An encoder whose four query heads share `heads` heads of keys and values."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    config = EuroBertConfig(vocab_size=tiny.VOCAB_SIZE, num_key_value_heads=heads, **sizes, **ids)
    model = AutoModel.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6)
    return model


def reference(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1), enable_gqa=False
):
    """`varlen_attn` by its documentation, row by row in float64: `[tokens, heads, head_size]`."""
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert [int(cu_seq_q[0]), int(cu_seq_q[-1])] == [0, len(query)]
    lengths = cu_seq_q.diff()
    assert 0 < lengths.min() <= lengths.max() <= min(max_q, max_k)
    assert enable_gqa == (key.shape[1] != query.shape[1])
    groups = query.shape[1] // key.shape[1]
    key, value = (state.repeat_interleave(groups, dim=1) for state in (key, value))
    outputs = []
    for q, k, v in zip(*(state.double().split(lengths.tolist()) for state in (query, key, value)), strict=True):
        scores = torch.einsum("ihd,jhd->hij", q, k) * (scale or q.shape[-1] ** -0.5)
        ahead = torch.arange(len(q)) - torch.arange(len(q))[:, None]
        left, right = (math.inf if side < 0 else side for side in window_size)
        scores = scores.masked_fill((ahead > right) | (-ahead > left), -math.inf)
        outputs.append(torch.einsum("hij,jhd->ihd", scores.softmax(-1), v))
    return torch.cat(outputs).to(query.dtype)


@pytest.fixture
def varlen_on_cpu(monkeypatch):
    """All of the back end but its kernel, on a CPU; gives the keyword arguments of each call of the kernel."""
    calls = []

    def kernel(*arguments, **named):
        calls.append(named)
        return reference(*arguments, **named)

    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    monkeypatch.setattr(interface, "can_use_varlen", lambda query, packing: packing.cumulative is not None)
    return calls


def top_states(model, view):
    layout, inputs = view
    return encode(model, inputs, layout, TOP).hidden_states[2]


FAMILIES = {family: lambda family=family: make(family) for family in PACKABLE if family != "albert"} | {
    "modernbert, a window of 4": lambda: make("modernbert", layers=2, layer_types=["sliding_attention"] * 2),
    "grouped queries": grouped,
    "one head of keys": lambda: grouped(1),
}


@pytest.mark.promise(4)
@pytest.mark.parametrize("name", FAMILIES)
def test_all_back_ends_give_the_same_states_and_gradients(name, varlen_on_cpu):
    model = FAMILIES[name]().double()
    packed, padded = views(model, [*LENGTHS, 30])
    without = packed[0], packed[1] | {"attention_mask": Packing.from_layout(packed[0], cumulative=False)}
    found = {}
    for backend, view in (("padded", padded), ("runs", without), ("varlen", packed)):
        states = top_states(model, view)
        weight = torch.randn(states.shape, generator=torch.Generator().manual_seed(2), dtype=states.dtype)
        found[backend] = states, gradients(model, states, weight)
    assert len(varlen_on_cpu) == 2
    for backend in ("runs", "varlen"):
        torch.testing.assert_close(found[backend][0], found["padded"][0], rtol=1e-9, atol=1e-9)
        for parameter, gradient in found[backend][1].items():
            torch.testing.assert_close(gradient, found["padded"][1][parameter], rtol=1e-8, atol=1e-8, msg=parameter)


@pytest.mark.promise(4)
@pytest.mark.parametrize("family", ["bert", "modernbert", "distilbert", "mpnet"])
@pytest.mark.parametrize("lengths", [LENGTHS, [6, 6, 6]], ids=["padding", "none"])
def test_the_mask_that_is_made_on_a_gpu_changes_nothing(family, lengths):
    model = make(family).double()
    _, padded = views(model, lengths)
    plain = top_states(model, padded)
    own = model.config._attn_implementation
    with attending(model, interface.PADDED if own == "sdpa" else interface.PADDED_EAGER):
        torch.testing.assert_close(top_states(model, padded), plain, rtol=1e-9, atol=1e-9)
    assert model.config._attn_implementation == own


def test_windows_mean_what_they_mean_to_transformers(varlen_on_cpu):
    # Of local_attention=8, transformers' mask lets tokens see four to each side, and flash attention's bounds are
    # inclusive; the modules say 5.
    model = make("modernbert", layers=2, layer_types=["sliding_attention", "full_attention"])
    mask = create_bidirectional_sliding_window_mask(model.config, torch.zeros(1, 30, 32), None)
    assert mask[0, 0, 15].nonzero().flatten().tolist() == list(range(11, 20))
    top_states(model, views(model, [30])[0])
    assert [call.get("window_size") for call in varlen_on_cpu] == [(4, 4), None]
    assert torch.equal(runs._band(30, 5, torch.device("cpu")), mask)


def test_the_tail_is_one_more_row_and_cumulative_lengths_are_int32(varlen_on_cpu):
    layout, inputs = views(make("bert"))[0]
    packing = rounded_up(inputs)["attention_mask"]
    assert packing.cumulative.tolist() == [0, 2, 7, 12, 17, 28, 45, GRANULE]
    assert (packing.cumulative.dtype, packing.tail, packing.longest) == (torch.int32, 19, GRANULE)
    whole = TokenLayout.from_lengths([GRANULE - 5, 5], packed=True)
    inputs = {"input_ids": torch.zeros(1, GRANULE, dtype=torch.long), "attention_mask": Packing.from_layout(whole)}
    assert rounded_up(inputs)["attention_mask"].cumulative.tolist() == [0, GRANULE - 5, GRANULE]
    assert layout.tokens == 45


def test_the_kernel_gets_the_scale_of_the_model(varlen_on_cpu):
    model = grouped()
    for layer in model.layers:
        layer.self_attn.scaling = 0.5
    packed, padded = views(model)
    torch.testing.assert_close(top_states(model, packed), top_states(model, padded), rtol=1e-5, atol=5e-6)
    assert [call["scale"] for call in varlen_on_cpu] == [0.5] * len(model.layers)


def test_tokens_of_no_row_get_no_gradient_and_give_none(varlen_on_cpu):
    model = make("bert")
    packed, _ = views(model)
    states = top_states(model, packed)
    gradient = torch.autograd.grad(states.sum(), model.embeddings.position_embeddings.weight)[0]
    assert gradient[: max(LENGTHS)].abs().sum() > 0
    assert not gradient[max(LENGTHS) :].any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("heads", [(4, 4), (4, 2)])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_kernel_computes_what_the_reference_does(heads, window, dtype):
    generator = torch.Generator().manual_seed(0)
    layout = TokenLayout.from_lengths([1, 7, 7, 64, 130], packed=True)
    states = [
        torch.randn(1, h, layout.tokens, 32, generator=generator, dtype=torch.float64) for h in (*heads, heads[1])
    ]
    weight = torch.randn(1, layout.tokens, heads[0], 32, generator=generator, dtype=torch.float64)
    packing = Packing.from_layout(layout)
    bounds = {} if window is None else {"window_size": (window - 1, window - 1)}
    outputs = []
    for where in ("cpu", "cuda"):
        own = [state.to(where, torch.float64 if where == "cpu" else dtype).requires_grad_() for state in states]
        if where == "cpu":
            rows = packing.cumulative
            flat = (state[0].transpose(0, 1) for state in own)
            output = reference(*flat, rows, rows, 130, 130, enable_gqa=heads[0] != heads[1], **bounds)[None]
        else:
            assert interface.can_use_varlen(own[0], packing)
            output = varlen.attend_by_varlen(None, own, packing.to(where), window, {})
        (output * weight.to(where, output.dtype)).sum().backward()
        outputs.append([output, *(state.grad for state in own)])
    tolerance = 0.02 if dtype == torch.bfloat16 else 0.004
    for expected, found in zip(*outputs, strict=True):
        assert (found.cpu().double() - expected).norm() < tolerance * expected.norm()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", FAMILIES)
def test_models_compute_on_a_gpu_what_they_compute_in_float64(name):
    model = FAMILIES[name]().double()
    packed, padded = views(model, [*LENGTHS, 30])
    expected = top_states(model, padded)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2), dtype=expected.dtype)
    expected_gradients = gradients(model, expected, weight)
    model.float().cuda()
    layout, inputs = packed
    with torch.autocast("cuda", torch.bfloat16):
        states = top_states(model, (layout.to("cuda"), {key: each.to("cuda") for key, each in inputs.items()}))
    found = gradients(model, states, weight.float().cuda())
    assert (states.cpu() - expected).norm() < 0.05 * expected.norm()
    for parameter, gradient in found.items():
        scale = expected_gradients[parameter.replace("key.bias", "query.bias").replace("k_lin.bias", "q_lin.bias")]
        assert (gradient.cpu() - expected_gradients[parameter]).norm() < 0.08 * scale.norm() + 1e-3, parameter


# --- Which back end a model gets -------------------------------------------------------------------------------------


def settings(device="cuda", dtype=torch.bfloat16, **more):
    return AttentionSettings(torch.device(device), dtype, **more)


@pytest.fixture
def an_h100(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "H100")


@pytest.mark.parametrize(
    ("where", "name", "reason"),
    [
        ({}, "varlen", "packed batches on cuda"),
        ({"dtype": torch.float16}, "varlen", "packed batches on cuda"),
        ({"dtype": torch.float32}, "padded", "computes in bf16 or fp16, but the run computes in float32"),
        ({"device": "cpu"}, "runs", "packed batches on cpu"),
        ({"device": "mps"}, "padded", "needs an NVIDIA GPU, and the device is mps"),
        ({"backend": "padded"}, "padded", "asked for"),
        ({"backend": "runs"}, "runs", "asked for"),
        ({"dropout": True}, "varlen", "without dropout of attention weights (attention_probs_dropout_prob=0.1)"),
    ],
)
def test_the_back_end_follows_device_and_number_format_and_says_why(where, name, reason, an_h100):
    chosen = settings(**where).choose(tiny.model("bert"))
    assert chosen.name == name
    assert reason in str(chosen)


def test_what_varlen_can_not_do_is_padded_on_a_gpu(an_h100, monkeypatch):
    odd = tiny.model("bert", hidden=36)  # four heads of 9
    assert "the head size is 9" in str(settings().choose(odd))
    assert str(settings().choose(tiny.model("mpnet"))).startswith("padded (mpnet can't be packed")
    assert str(settings().choose(tiny.model("bert", "sequence"))) == "padded (its head reads whole rows)"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert "compute capability 8.0, and H100 has less" in str(settings().choose(tiny.model("bert")))


def test_an_implementation_that_the_user_chose_is_respected(an_h100):
    model = tiny.model("bert", attn_implementation="eager")
    assert str(settings().choose(model)) == "padded (the model was loaded with attn_implementation='eager')"
    with pytest.raises(ValueError, match=r"BertModel can't use attention_backend='runs'.*'eager'"):
        settings(backend="runs").choose(model)


def test_compiled_students_are_padded_and_not_compiled_for_every_batch(tmp_path):
    args = tiny.arguments(tmp_path, embedding_weight=1.0, torch_compile=True)
    model = tiny.model("bert", layers=1)
    assert str(args.attention.choose(model)) == "padded (torch_compile would compile nearly every packed batch anew)"
    assert args.attention.of_teachers().choose(model).name == "runs"  # teachers are not compiled
    with pytest.raises(ValueError, match=r"can't use attention_backend='runs'.*torch_compile"):
        settings("cpu", backend="runs", compiled=True).choose(model)
    counter = CompileCounter()
    compiled, found = torch.compile(model, backend=counter, dynamic=True), []
    for lengths in ([3, 3, 5], [2, 6, 3], [7, 2], [5, 5, 2, 2]):
        layout = TokenLayout.from_lengths(lengths, packed=False)
        with torch.no_grad():
            compiled(input_ids=layout.pad(torch.arange(8, 8 + layout.tokens)), attention_mask=layout.mask.long())
        found.append(counter.frame_count)
    assert found[0] > 0
    assert found == found[:1] * 4


def test_a_back_end_that_can_not_be_had_is_refused_of_the_student_only():
    with pytest.raises(ValueError, match=r"BertModel can't use attention_backend='varlen'.*the device is cpu"):
        settings("cpu", backend="varlen").choose(tiny.model("bert"))
    assert settings("cpu", backend="varlen").of_teachers().choose(tiny.model("bert")).name == "runs"
    assert settings("cpu", backend="runs").of_teachers().choose(tiny.model("mpnet")).name == "padded"
    assert settings("cpu", backend="padded").of_teachers().choose(tiny.model("bert")).name == "padded"


# --- What a model had is restored -----------------------------------------------------------------------------------


def test_a_pass_leaves_the_implementation_as_it_was_and_makes_no_mask(monkeypatch):
    model = make("modernbert")
    seen = []
    for layer in model.layers:
        layer.attn.register_forward_pre_hook(
            lambda module, arguments, named: seen.append(named.get("attention_mask")), with_kwargs=True
        )
    layout, inputs = views(model)[0]
    top_states(model, (layout, inputs))
    assert [type(mask) for mask in seen] == [Packing, Packing]  # rather than [tokens, tokens]
    assert model.config._attn_implementation == "sdpa"
    with pytest.raises(ValueError, match="The packing describes"):
        top_states(model, (layout, views(model, [3])[0][1] | {"attention_mask": inputs["attention_mask"]}))
    assert model.config._attn_implementation == "sdpa"


def test_a_run_leaves_the_implementations_as_they_were(tokenizer, tmp_path, caplog):
    caplog.set_level("INFO")
    teacher = tiny.model("bert", layers=4)
    student = shrink(teacher, layers=2)
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(32)}), tokenizer)
    args = tiny.arguments(tmp_path, embedding_weight=1.0, max_steps=2)
    trainer = DistillTrainer(student, teacher, args, train_dataset=rows, eval_dataset=rows, processing_class=tokenizer)
    assert trainer.data_collator.student.packed
    assert "Attention of the student, BertModel: runs (packed batches on cpu)." in caplog.text
    assert "Attention of the teacher, BertModel: runs (packed batches on cpu)." in caplog.text
    trainer.train()
    trainer.evaluate()
    assert [model.config._attn_implementation for model in (teacher, student)] == ["sdpa", "sdpa"]


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_a_run_with_activation_checkpointing_trains_and_restores_too(implementation, tokenizer, tmp_path):
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(32)}), tokenizer)
    found = []
    for checkpointing in (False, True):
        student = tiny.model("bert", attn_implementation=implementation, **NO_DROPOUT)
        args = tiny.arguments(
            tmp_path, embedding_weight=1.0, max_steps=2, activation_checkpointing=checkpointing, save_strategy="no"
        )
        teacher = tiny.model("bert", seed=1)
        trainer = DistillTrainer(student, teacher, args, train_dataset=rows, processing_class=tokenizer)
        assert trainer.data_collator.student.packed is (implementation == "sdpa")
        trainer.train()
        assert student.config._attn_implementation == implementation
        found.append(torch.cat([parameter.detach().flatten() for parameter in student.parameters()]))
    torch.testing.assert_close(*found)


def test_checkpointed_layers_need_the_implementation_in_the_backward_pass():
    model = make("bert").train()
    model.activation_checkpointing_enable()
    packed, _ = views(model)
    with pytest.raises(RuntimeError, match=r"attending\(model\)"):
        top_states(model, packed)
    with torch.no_grad():
        top_states(model, packed)
    with attending(model):
        top_states(model, packed).sum().backward()
    assert model.config._attn_implementation == "sdpa"


def test_grouped_queries_can_be_packed():
    model = grouped()
    assert supports_packing(model)
    enable_packing(model)
    (packed, inputs), (padded, padded_inputs) = views(model)
    output = packed.flatten(model(**rounded_up(inputs)).last_hidden_state)
    torch.testing.assert_close(output, padded.flatten(model(**padded_inputs).last_hidden_state), rtol=1e-5, atol=5e-6)
