"""Causal models are told by their hidden states, whether or not they have a flag."""

import every_family
import pytest
import tiny
import torch
from datasets import Dataset
from transformers import BloomConfig, BloomModel, OpenAIGPTConfig, OpenAIGPTModel, XGLMConfig, XGLMModel

from retort import DistillTrainer, shrink, tokenize
from retort.modeling.encoding.attention import is_causal

SIZES = {"vocab_size": 160, "pad_token_id": 0}
UNFLAGGED = {
    "bloom": lambda: BloomModel(BloomConfig(**SIZES, hidden_size=32, n_layer=2, n_head=4)),
    "openai-gpt": lambda: OpenAIGPTModel(OpenAIGPTConfig(**SIZES, n_embd=32, n_layer=2, n_head=4, n_positions=64)),
    "xglm": lambda: XGLMModel(XGLMConfig(**SIZES, d_model=32, ffn_dim=48, num_layers=2, attention_heads=4)),
}


@pytest.mark.promise(9)
@pytest.mark.parametrize("name", UNFLAGGED)
def test_a_causal_model_without_a_flag_is_no_student(name, tmp_path):
    torch.manual_seed(0)
    student = UNFLAGGED[name]()
    tokenizer = tiny.tokenizer()
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(8)}), tokenizer)
    args = tiny.arguments(tmp_path, embedding_weight=1.0)
    with pytest.raises(ValueError, match=f"{type(student).__name__} is a causal model"):
        DistillTrainer(student, tiny.model(), args, train_dataset=rows, processing_class=tokenizer)
    with pytest.raises(ValueError, match="is causal: no token attends to a later one"):
        shrink(student, layers=1)


@pytest.mark.parametrize("name", every_family.NAMES)
def test_causal_families_are_told_from_encoders(name):
    with_causal_decoder = "bart", "mbart"
    expected = name in ("gemma3 text", "gpt2", "llama", "qwen3", *with_causal_decoder)
    assert is_causal(every_family.build(name)) == expected
