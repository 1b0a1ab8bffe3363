"""Models of sentence-transformers of every kind that retort runs, made on the spot, and their embeddings."""

import tiny
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
from torch import nn
from transformers import Qwen3Config, Qwen3Model

TEXTS = [*tiny.sentences(13, seed=5), "the cat " * 20]
EXACT = {"atol": 1e-5, "rtol": 0}


def qwen3(layers=2):
    torch.manual_seed(2)
    sizes = {"hidden_size": 32, "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = Qwen3Config(
        vocab_size=tiny.VOCAB_SIZE,
        head_dim=8,
        intermediate_size=48,
        max_position_embeddings=66,
        pad_token_id=0,
        **sizes,
    )
    return Qwen3Model(config).eval()


def transformer(folder, tokenizer, *, model=None, padding_side="right"):
    """A `Transformer` module of sentence-transformers that cuts at 20 tokens."""
    (model or tiny.model()).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Transformer(str(folder), max_seq_length=20, processor_kwargs={"padding_side": padding_side})


def sentence_transformer(folder, tokenizer, name):
    """A model of sentence-transformers of one of the kinds in `KINDS`."""
    torch.manual_seed(4)
    options = {}
    if name == "cls, dense, tanh, normalize":
        after = [Pooling(32, "cls"), Dense(32, 16, activation_function=nn.Tanh()), Normalize()]
    elif name == "concatenated":
        after = [Pooling(32, ("mean", "cls", "max")), LayerNorm(96), Dense(96, 24, activation_function=nn.GELU())]
    elif name == "truncated":
        after, options = [Pooling(32, "mean"), Normalize()], {"truncate_dim": 10}
    elif name.startswith("prompt not pooled"):
        mode = name.split(", ")[1]
        after = [Pooling(32, mode, include_prompt=False)]
        options = {"prompts": {"query": "the old man "}, "default_prompt_name": "query"}
    elif name == "qwen3":
        after = [Pooling(32, "lasttoken"), Normalize()]
    else:
        after = [Pooling(32, name)]
    model, side = (qwen3(), "left") if name == "qwen3" else (None, "right")
    first = transformer(folder, tokenizer, model=model, padding_side=side)
    made = SentenceTransformer(modules=[first, *after], device="cpu", **options)
    for module in after:
        if isinstance(module, LayerNorm):
            nn.init.normal_(module.norm.weight)
    return made


KINDS = (
    "mean",
    "cls",
    "max",
    "lasttoken",
    "cls, dense, tanh, normalize",
    "concatenated",
    "truncated",
    "prompt not pooled, mean",
    "prompt not pooled, cls",
    "prompt not pooled, max",
    "prompt not pooled, lasttoken",
    "qwen3",
)


def encoded(model, **options):
    return torch.as_tensor(model.encode(TEXTS, batch_size=5, **options))


def saved(model, folder):
    model.save(str(folder), create_model_card=False)
    return folder
