"""Every type that transformers maps for masked LM, and some beside: shrunk right, or refused with a sentence.

The table says what each family can do. A family that transformers adds is missing in it, and its test says so.
"""

import copy

import every_family
import pytest
import torch
from torch import nn
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from retort import shrink
from retort.modeling import encoder_layers, layers_name
from retort.modeling.encoding import (
    Packing,
    TokenLayout,
    enable_packing,
    position_offset,
    require_padding,
    supports_packing,
)
from retort.modeling.shrinking import depth

MIXED = [(0,), (1,)]
ALL = "works"  # by depth and width
NO_HEADS = "depth, and width of the feed-forward layers"
DEPTH = "depth only"
WHOLE = "copied only"

TABLE = {
    **dict.fromkeys(
        """bert big_bird camembert data2vec-text deberta-v2 distilbert electra ernie gte jina_embeddings_v3 layoutlm
        longformer luke megatron-bert modernbert mpnet nomic_bert nystromformer rembert roberta roberta-prelayernorm
        tapas ultrabert xlm-roberta xlm-roberta-xl yoso eurobert""".split(),
        (ALL, ""),
    ),
    "deberta-v2 relative": (ALL, ""),
    "t5 encoder": (ALL, ""),
    "umt5 encoder": (ALL, ""),
    "convbert": (NO_HEADS, "is no multiple of hidden_size"),
    "deberta": (NO_HEADS, "no query, key and value maps under a known name"),
    "ibert": (NO_HEADS, "no query, key and value maps under a known name"),
    "mobilebert": (NO_HEADS, "is no multiple of hidden_size"),
    "roc_bert": (NO_HEADS, "is no multiple of hidden_size"),
    "roformer": (NO_HEADS, "is no multiple of hidden_size"),
    "xmod": (NO_HEADS, "is no multiple of hidden_size"),
    "eurobert grouped": (NO_HEADS, "grouped keys and values"),
    "embeddinggemma": (NO_HEADS, "grouped keys and values"),
    "fnet": (DEPTH, "has no num_attention_heads"),
    "albert": (WHOLE, "holds no list of 4 equal layers"),
    "esm": (WHOLE, r"contact_head.regression.weight is \[1, 16\] with 4 layers, but \[1, 8\] with 2. Keep all layers"),
    "esmc": (WHOLE, "scaling_factor=0.333 in a model of 4 layers, but with 0.236 in one of 2. Keep all layers"),
    "flaubert": (WHOLE, "spreads its 4 layers over 4 lists"),
    "funnel": (WHOLE, "holds no list of 4 equal layers"),
    "neomme": (WHOLE, "per_layer_config"),
    "reformer": (WHOLE, "passes a ReformerOutput from layer to layer"),
    "squeezebert": (WHOLE, "doesn't run all layers equally often"),
    "xlm": (WHOLE, "spreads its 4 layers over 4 lists"),
    "bart": (None, "has an encoder and a decoder"),
    "mbart": (None, "has an encoder and a decoder"),
    "mvp": (None, "has an encoder and a decoder"),
    "modernvbert": (None, "pass the text encoder alone"),
    "ultravbert": (None, "pass the text encoder alone"),
    "perceiver": (None, "has no num_hidden_layers"),
    "mra": (None, "no token attends to another"),  # its attention is a CUDA kernel, and zero without
    "gemma3 text": (None, "is causal"),
    "gpt2": (None, "is causal"),
    "llama": (None, "is causal"),
    "qwen3": (None, "is causal"),
}
# The families whose attention takes packed rows.
GROUPED = ("eurobert grouped", "embeddinggemma")
PACKED = {
    *GROUPED,
    *"""albert bert camembert data2vec-text distilbert electra ernie esmc eurobert gte jina_embeddings_v3 modernbert
    modernvbert neomme nomic_bert roberta roberta-prelayernorm roc_bert ultrabert ultravbert xlm-roberta xlm-roberta-xl
    xmod""".split(),
}
# The families that mix padding into tokens: by a convolution, a Fourier transform or approximate attention.
MIX_PADDING = {"convbert", "fnet", "mobilebert", "nystromformer", "yoso"}
NOT_RUN_ON_TOKENS = {"perceiver"}
TOKENS = torch.arange(8, 32).reshape(1, 24)


def outputs(model):
    with torch.no_grad():
        return model(input_ids=TOKENS, attention_mask=torch.ones_like(TOKENS))[0]


def with_layers(teacher, kept):
    """The reference: a copy of the teacher whose list holds these of its layers."""
    model = copy.deepcopy(teacher)
    layers = encoder_layers(model)
    first = layers[0]
    parent, name = layers_name(model).rpartition(".")[::2]
    setattr(model.get_submodule(parent), name, nn.ModuleList([layers[i] for i in kept]))
    config = model.config
    config.num_hidden_layers = len(kept)
    for entry in ("layer_types", "attention_window"):
        if getattr(config, entry, None):
            setattr(config, entry, [getattr(config, entry)[i] for i in kept])
    for owner in model.modules():
        if getattr(owner, "config", None) is not None:
            owner.config.num_hidden_layers = len(kept)
    if type(model).__name__ == "T5EncoderModel" and 0 not in kept:
        ours = model.encoder.block[0].layer[0].SelfAttention
        theirs = first.layer[0].SelfAttention
        ours.has_relative_attention_bias, ours.relative_attention_bias = True, theirs.relative_attention_bias
    return model


def names(*kinds):
    return [name for name, (kind, _) in TABLE.items() if kind in kinds]


def test_the_table_knows_every_type_that_transformers_maps_for_masked_lm():
    assert set(TABLE) == set(every_family.NAMES)
    assert set(TABLE) >= set(MODEL_FOR_MASKED_LM_MAPPING_NAMES)


@pytest.mark.parametrize("name", names(ALL, NO_HEADS, DEPTH, WHOLE))
def test_a_student_as_deep_and_as_wide_gives_its_teachers_outputs(name):
    teacher = every_family.build(name)
    torch.testing.assert_close(outputs(shrink(teacher)), outputs(teacher), rtol=0, atol=1e-6)


# ModernBERT's first layer lacks a norm that the others have: a student without it is refused (test_shrink_depth).
@pytest.mark.parametrize(
    ("name", "kept"),
    [
        pytest.param(name, kept, id=f"{kept}-{name}")
        for kept in ([0, 2, 1], [1, 3])
        for name in names(ALL, NO_HEADS, DEPTH)
        if (name, kept) != ("modernbert", [1, 3])
    ],
)
def test_a_student_of_some_layers_gives_the_outputs_of_its_teacher_with_these_alone(name, kept):
    teacher = every_family.build(name)
    found, expected = outputs(shrink(teacher, layers=kept)), outputs(with_layers(teacher, kept))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert not torch.allclose(found, outputs(teacher), atol=1e-4)


@pytest.mark.promise(9)
@pytest.mark.parametrize("name", names(WHOLE, None))
def test_a_family_whose_layers_cannot_be_chosen_is_refused_with_a_reason(name):
    teacher = every_family.build(name)
    with pytest.raises(ValueError, match=TABLE[name][1]):
        shrink(teacher, layers=2)
    if TABLE[name][0] is None:
        with pytest.raises(ValueError, match=TABLE[name][1]):
            shrink(teacher)


@pytest.mark.parametrize("name", names(ALL, NO_HEADS))
def test_narrower_feed_forward_layers_leave_attention_alone(name):
    teacher = every_family.build(name)
    student = shrink(teacher, intermediate_size=24)
    before, after = teacher.state_dict(), student.state_dict()
    changed = {key for key, tensor in after.items() if tensor.shape != before[key].shape}
    assert changed
    for key in changed:
        cut = [axis for axis in range(before[key].dim()) if after[key].shape[axis] != before[key].shape[axis]]
        assert all(after[key].shape[axis] * 2 == before[key].shape[axis] for axis in cut)
    attention = [key for key in after if "k_proj" in key or ".key." in key]
    assert all(torch.equal(after[key], before[key]) for key in attention)
    assert outputs(student).isfinite().all()


@pytest.mark.parametrize("name", names(ALL, NO_HEADS, DEPTH))
def test_narrower_hidden_states_run_or_are_refused(name):
    teacher = every_family.build(name)
    if TABLE[name][0] == ALL:
        assert outputs(shrink(teacher, hidden_size=24, num_attention_heads=3)).isfinite().all()
        return
    with pytest.raises(ValueError, match=TABLE[name][1]):
        shrink(teacher, hidden_size=24, num_attention_heads=3)


@pytest.mark.promise(4)
@pytest.mark.parametrize("name", TABLE)
def test_packed_rows_give_what_padded_rows_give(name):
    model = every_family.build(name)
    assert supports_packing(model) is (name in PACKED)
    if name not in PACKED:
        return
    encoder = model.base_model
    lengths = [4, 4, 9, 6]
    layout = TokenLayout.from_lengths(lengths, packed=True)
    ids = torch.arange(8, 8 + layout.tokens)
    with torch.no_grad():
        padded = encoder(input_ids=layout.pad(ids, 0), attention_mask=layout.mask.long())[0]
        enable_packing(model)
        positions = (layout.positions + position_offset(encoder))[None]
        packed = encoder(input_ids=ids[None], position_ids=positions, attention_mask=Packing.from_layout(layout))[0]
    torch.testing.assert_close(packed[0], layout.unpad(padded), rtol=1e-5, atol=1e-5)


@pytest.mark.promise(4)
@pytest.mark.parametrize("name", sorted(TABLE.keys() - NOT_RUN_ON_TOKENS))
def test_padding_changes_no_row_or_the_family_is_refused(name):
    model = every_family.build(name)
    with torch.no_grad():
        model.get_input_embeddings().weight[0].normal_()  # of padding: it is not zero in every checkpoint
    if name not in MIX_PADDING:
        require_padding(model, pad_token_id=0)
        return
    with pytest.raises(ValueError, match=rf"outputs of {type(model).__name__} for a row change if the row is padded"):
        require_padding(model, pad_token_id=0)


@pytest.mark.promise(9)
def test_a_student_with_other_layers_than_asked_for_does_not_pass_the_probe(monkeypatch):
    monkeypatch.setattr(
        "retort.modeling.shrinking.student.with_layers", lambda draft, _: depth.with_layers(draft, MIXED)
    )
    with pytest.raises(ValueError, match="A student with layers 0, 2 of BertForMaskedLM has other outputs"):
        shrink(every_family.build("bert"), layers=[0, 2])
