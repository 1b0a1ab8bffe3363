"""Loads encoders of any kind for evaluation, and compares them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel

from ...modeling import encoder_class, from_config, require_weights
from ...modeling.encoding import SentenceEncoder, SentenceModules, read_sentence_modules
from ..cost import Footprint
from ..report import ModelRow, Quality, Report, Role, build_report
from .similarity import bootstrapped_agreement


def load_embedder(
    source: str | None, pooler: str | None, max_length: int, *, state_dict: str | None = None, base: str | None = None
) -> SentenceEncoder:
    """Load a model. A Normalize at the end is left out, since scores use cosine similarities or probes.

    Args:
        source: folder or hub id. The modules of a SentenceTransformer are used unless a pooler is given.
        pooler: one of `retort.modeling.encoding.POOLERS`. Default: the one in a SentenceTransformer's files, else mean.
        max_length: texts are truncated to this many tokens, or to the model's limit if it is less.
        state_dict: file with raw weights, instead of `source`.
        base: folder or hub id of the architecture and tokenizer of `state_dict`.

    Raises:
        SystemExit: none of the weights fit the architecture.
        ValueError: see `SentenceEncoder`; or the model is causal and its files don't define its pooling.
    """
    named = pooler or "mean"
    if state_dict is not None:
        modules = SentenceModules.plain(named, max_length, normalize=False)
        return SentenceEncoder(_load_raw(state_dict, base), AutoTokenizer.from_pretrained(base), modules)
    if pooler is None and read_sentence_modules(source) is not None:
        return SentenceEncoder.from_pretrained(source).cut_at(max_length).not_normalized()
    return SentenceEncoder.with_pooler(source, named, max_length=max_length)


def load_sentence_teacher(
    source: str | Path, max_length: int, pooler: str | None = None, *, otherwise: str | None = "mean"
) -> SentenceEncoder:
    """Load a SentenceTransformer, or any encoder with a pooler.

    Args:
        source: folder or hub id.
        max_length: texts are truncated to this many tokens, or to the teacher's limit if it is less.
        pooler: the expected pooler. None accepts the pooling in the teacher's files.
        otherwise: the pooler if neither the teacher's files nor `pooler` define one; None refuses such a teacher.

    Raises:
        SystemExit: the teacher's files define another pooling than `pooler`.
        ValueError: see `SentenceEncoder`; or the model is causal and its files don't define its pooling.
    """
    modules = read_sentence_modules(source)
    if modules is not None and pooler not in (None, str(modules.pooling)):
        raise SystemExit(f"{source} pools by '{modules.pooling}', but teacher_pooler {pooler!r} was asked for.")
    return SentenceEncoder.from_pretrained(source, pooler=pooler or otherwise, max_length=max_length)


def _load_raw(file: str, base: str) -> PreTrainedModel:
    """Load an encoder from a bare `state_dict` (`.pth`, `.bin`) without unpickling objects.

    Unexpected weights are printed, missing ones refused, but for the pooler's.
    """
    weights = torch.load(file, weights_only=True, map_location="cpu")
    config = AutoConfig.from_pretrained(base)
    model = from_config(config, encoder_class(config), dtype=torch.float32).eval()
    prefix = f"{model.base_model_prefix}."
    weights = {name.removeprefix("module.").removeprefix(prefix): tensor for name, tensor in weights.items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if len(missing) == len(model.state_dict()):
        raise SystemExit(
            f"{file} has the weights {', '.join(list(weights)[:3])} ..., none of which a {type(model).__name__} "
            f"({base}) has."
        )
    require_weights(file, missing)
    if unexpected:
        print(f"{file}: {len(unexpected)} weights are not in this architecture: {', '.join(unexpected)}")
    return model


def side_by_side(
    models: dict[str, tuple[Role, SentenceEncoder]],
    quality: Callable[[SentenceEncoder], Quality],
    texts: Sequence[str],
    log_history: Sequence[Mapping[str, Any]],
    **words: Any,
) -> Report:
    """Evaluate teacher, untrained student and trained student in one report.

    Args:
        models: name -> role and model. The teacher, if there is one, comes first.
        quality: computes the scores of a model. The first score is the report's metric.
        texts: unseen texts, for speed and for the agreement of similarities with the teacher's.
        log_history: log of the trainer.
        words: further arguments of `build_report`, such as `measured`.
    """
    found = {}
    for name, (_, model) in models.items():
        found[name] = quality(model)
        metric, value = next(iter(found[name].scores.items()))
        print(f"{name}: {metric} {value:.3f}", flush=True)
    teacher = next((model for role, model in models.values() if role == Role.TEACHER), None)
    if teacher is not None:
        theirs = teacher.encode(texts[:1000])
        for name, (_, model) in models.items():
            found[name] |= bootstrapped_agreement(theirs, model.encode(texts[:1000]))
    rows = [
        ModelRow.of(name, role, model.model, found[name], Footprint.of(model)) for name, (role, model) in models.items()
    ]
    encoders = {name: model.encode for name, (_, model) in models.items()}
    return build_report(rows, encoders, texts, log_history, **words)
