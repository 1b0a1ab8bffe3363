"""Encoders of any kind, loaded to be judged."""

from __future__ import annotations

from dataclasses import replace

import torch
from sentence_students import SentenceModel
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel

from retort.trainers.teacher_pooling import TeacherPooling, read_teacher_pooling

# What SimCSE and DistilCSE call the poolers.
POOLERS = {
    "cls": "cls",
    "cls_before_pooler": "cls_before_pooler",
    "avg": "mean",
    "avg_top2": "mean_last_two",
    "avg_first_last": "mean_first_last",
}


def load_embedder(
    source: str | None, pooler: str | None, max_length: int, *, state_dict: str | None = None, base: str | None = None
) -> SentenceModel:
    """Load a model. Its embeddings are not scaled to unit length: all scores go by direction or by probes.

    Args:
        source: folder or hub id; a SentenceTransformer's own pooling is used, unless another pooler is named.
        pooler: as `POOLERS` names it.
        max_length: tokens to which texts are cut; never more than the model takes.
        state_dict: raw weights in place of `source`.
        base: of these, the model whose architecture and tokenizer they have.

    Raises:
        SystemExit: weights that don't fit the architecture at all.
    """
    named = TeacherPooling(POOLERS[pooler or "avg"], normalize=False, max_length=max_length)
    if state_dict is not None:
        return SentenceModel(load_raw(state_dict, base), AutoTokenizer.from_pretrained(base), named)
    found = read_teacher_pooling(source)
    model = AutoModel.from_pretrained(source, dtype=torch.float32).eval()
    if found is not None and pooler is None:
        named = replace(found, normalize=False, max_length=min(max_length, found.max_length))
    return SentenceModel(model, AutoTokenizer.from_pretrained(source), named)


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
