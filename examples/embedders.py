"""Any encoder as a function from texts to embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from retort.evaluation import embed
from retort.trainers.teacher_pooling import read_teacher_pooling

# What SimCSE and DistilCSE call the poolers.
POOLERS = {
    "cls": "cls",
    "cls_before_pooler": "cls_before_pooler",
    "avg": "mean",
    "avg_top2": "mean_last_two",
    "avg_first_last": "mean_first_last",
}


@dataclass(frozen=True)
class Embedder:
    """An encoder, and what makes embeddings of its outputs.

    Attributes:
        description: for tables.
        model: the encoder.
        tokenizer: its tokenizer.
        pooler: one of `modeling.pooling.POOLERS`.
        max_length: tokens to which texts are cut.
        dense: layers behind the pooler, or None.
    """

    description: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    pooler: str
    max_length: int
    dense: nn.Module | None = None

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """`[texts, dim]`, float32, on the CPU; lengths say nothing, since all scores go by direction or by probes."""
        pooled = embed(self.model, self.tokenizer, texts, pooler=self.pooler, max_length=self.max_length, progress=True)
        return pooled if self.dense is None else self.dense(pooled)


def load_embedder(
    source: str | None, pooler: str | None, max_length: int, *, state_dict: str | None = None, base: str | None = None
) -> Embedder:
    """Load a model.

    Args:
        source: folder or hub id; a SentenceTransformer's own pooling is used, unless another pooler is named.
        pooler: as `POOLERS` names it.
        max_length: tokens to which texts are cut; never more than the model takes.
        state_dict: raw weights in place of `source`.
        base: of these, the model whose architecture and tokenizer they have.

    Raises:
        SystemExit: weights that don't fit the architecture at all.
    """
    if state_dict is not None:
        model, name = load_raw(state_dict, base), Path(state_dict).name
        return Embedder(name, model, AutoTokenizer.from_pretrained(base), POOLERS[pooler or "avg"], max_length)
    found = read_teacher_pooling(source)
    model = AutoModel.from_pretrained(source, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(source)
    if found is None or pooler is not None:
        return Embedder(source, model, tokenizer, POOLERS[pooler or "avg"], max_length)
    return Embedder(source, model, tokenizer, found.pooler, min(max_length, found.max_length), found.dense)


def load_raw(file: str, base: str) -> PreTrainedModel:
    """An encoder with weights from a bare `state_dict` (`.pth`, `.bin`), read without unpickling objects.

    Weights that it lacks or has too many of are listed.

    Raises:
        SystemExit: none of its weights has a place in the architecture.
    """
    weights = torch.load(file, weights_only=True, map_location="cpu")
    model = AutoModel.from_config(AutoConfig.from_pretrained(base)).eval()
    prefix = f"{model.base_model_prefix}."
    weights = {name.removeprefix("module.").removeprefix(prefix): tensor for name, tensor in weights.items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if len(missing) == len(model.state_dict()):
        raise SystemExit(
            f"{file} holds {', '.join(list(weights)[:3])} ..., of which a {type(model).__name__} ({base}) has nothing."
        )
    for what, names in (("missing, and so random", missing), ("not of this architecture", unexpected)):
        if names:
            print(f"{file}: {len(names)} weights are {what}: {', '.join(names)}")
    return model
