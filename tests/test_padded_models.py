"""Models whose outputs depend on padding are refused, and attention that is not the usual formula isn't packed."""

import every_family
import pytest
import tiny
import torch
from datasets import Dataset
from transformers import (
    OpenAIPrivacyFilterConfig,
    OpenAIPrivacyFilterForTokenClassification,
    XLNetConfig,
    XLNetForSequenceClassification,
)

from retort import DistillTrainer, tokenize
from retort.modeling.encoding import require_padding, supports_packing


@pytest.mark.promise(4)
@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_trainer_refuses_a_model_that_mixes_padding_in(role, tmp_path):
    tokenizer, models = tiny.tokenizer(), {"student": tiny.model(), "teacher": tiny.model(seed=1)}
    models[role] = every_family.build("convbert").base_model
    models[role].resize_token_embeddings(160)
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(8)}), tokenizer)
    args = tiny.arguments(tmp_path, embedding_weight=1.0)
    with pytest.raises(ValueError, match=r"outputs of ConvBertModel for a row change if the row is padded, by 0\.\d"):
        DistillTrainer(*models.values(), args, train_dataset=rows, processing_class=tokenizer)


@pytest.mark.promise(4)
def test_a_head_that_reads_the_last_position_is_refused():
    torch.manual_seed(0)
    sizes = {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48, "vocab_size": 96}
    model = XLNetForSequenceClassification(XLNetConfig(**sizes, pad_token_id=0, bos_token_id=1, eos_token_id=2))
    with pytest.raises(ValueError, match="outputs of XLNetForSequenceClassification for a row change"):
        require_padding(model, pad_token_id=0)
    require_padding(model.transformer, pad_token_id=0)
    assert model.training


@pytest.mark.promise(4)
def test_attention_with_sinks_is_not_packed():
    torch.manual_seed(0)
    config = OpenAIPrivacyFilterConfig(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=4,
        pad_token_id=0,
        eos_token_id=1,
    )
    model = OpenAIPrivacyFilterForTokenClassification(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "sinks" in name:
                parameter.fill_(2.0)
    assert not supports_packing(model)
    require_padding(model, pad_token_id=0)


def test_a_model_that_cannot_run_yet_is_not_checked(monkeypatch):
    model = every_family.build("convbert")

    def fails(*arguments, **named):
        raise RuntimeError("FlashAttention only runs on a GPU")

    monkeypatch.setattr(model.base_model, "forward", fails)
    require_padding(model, pad_token_id=0)
    with torch.device("meta"):
        require_padding(type(model)(model.config), pad_token_id=0)


@pytest.mark.promise(4)
def test_outputs_that_are_not_numbers_if_padded_are_refused(monkeypatch):
    model = tiny.model()
    forward = model.forward

    def broken(*arguments, attention_mask, **named):
        result = forward(*arguments, attention_mask=attention_mask, **named)
        return result if attention_mask.all() else (result[0] * float("nan"),)

    monkeypatch.setattr(model, "forward", broken)
    with pytest.raises(ValueError, match="change if the row is padded, by inf"):
        require_padding(model, pad_token_id=0)


def test_outputs_that_say_nothing_are_not_compared():
    model = tiny.model()
    with torch.no_grad():
        model.encoder.layer[-1].output.LayerNorm.weight.zero_()
        model.encoder.layer[-1].output.LayerNorm.bias.zero_()
    require_padding(model, pad_token_id=0)  # zeros, as of a static model before its vectors are computed
    with torch.no_grad():
        model.encoder.layer[-1].output.LayerNorm.bias.fill_(float("nan"))
    require_padding(model, pad_token_id=0)
