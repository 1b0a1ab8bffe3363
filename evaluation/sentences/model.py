"""Encoders of any kind, loaded to be judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel

from ...modeling.encoding import SentenceEncoder, SentenceModules, read_sentence_modules
from ..report import ModelRow, Quality, Report, Role, build_report
from .similarity import bootstrapped_agreement, pair_cosines, rank_correlation

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
) -> SentenceEncoder:
    """Load a model. Its embeddings are not scaled to unit length at the end: all scores go by direction or by probes.

    Args:
        source: folder or hub id; a SentenceTransformer's own modules are used, unless a pooler is named.
        pooler: as `POOLERS` names it.
        max_length: tokens to which texts are cut; never more than the model takes.
        state_dict: raw weights in place of `source`.
        base: of these, the model whose architecture and tokenizer they have.

    Raises:
        SystemExit: weights that don't fit the architecture at all.
        ValueError: see `SentenceEncoder`; a causal model whose files don't say how its tokens are pooled.
    """
    named = POOLERS[pooler or "avg"]
    if state_dict is not None:
        tokenizer = AutoTokenizer.from_pretrained(base)
        return SentenceEncoder(
            load_raw(state_dict, base), tokenizer, SentenceModules.plain(named, max_length, normalize=False)
        )
    if pooler is None and read_sentence_modules(source) is not None:
        return SentenceEncoder.from_pretrained(source).cut_at(max_length).not_normalized()
    return SentenceEncoder.with_pooler(source, named, max_length=max_length)


def load_sentence_teacher(
    source: str | Path, max_length: int, pooler: str | None = None, *, otherwise: str = "mean"
) -> SentenceEncoder:
    """Load a SentenceTransformer, or any encoder with a pooler named.

    Args:
        source: folder or hub id.
        max_length: texts are cut to so many tokens, or to fewer if the teacher's own limit is lower.
        pooler: which it is to have; a SentenceTransformer says so itself.
        otherwise: the pooler of one that doesn't say, if `pooler` doesn't either.

    Raises:
        SystemExit: the teacher pools otherwise.
        ValueError: see `SentenceEncoder`; a causal model whose files don't say how its tokens are pooled.
    """
    modules = read_sentence_modules(source)
    if modules is not None and pooler not in (None, str(modules.pooling)):
        raise SystemExit(f"{source} pools by '{modules.pooling}', but teacher_pooler {pooler!r} was asked for.")
    return SentenceEncoder.from_pretrained(source, pooler=pooler or otherwise, max_length=max_length)


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


def sts_of_each(model: SentenceEncoder, tables: Mapping[str, Dataset]) -> dict[str, float]:
    """Spearman correlation of cosines with each table's gold scores; a text that stands in several is embedded once."""
    return {name: rank_correlation(*pair) for name, pair in sts_pairs(model, tables).items()}


def sts_pairs(model: SentenceEncoder, tables: Mapping[str, Dataset]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The cosines of each table's pairs, and their gold scores: `[pairs]` each."""
    sides = {(name, side): pairs[side] for name, pairs in tables.items() for side in ("sentence1", "sentence2")}
    rows = {text: row for row, text in enumerate(dict.fromkeys(chain.from_iterable(sides.values())))}
    embeddings = model.encode(list(rows))
    of_side = {place: embeddings[[rows[text] for text in texts]] for place, texts in sides.items()}
    return {
        name: (
            pair_cosines(of_side[name, "sentence1"], of_side[name, "sentence2"]),
            np.asarray(pairs["score"], dtype=np.float64),
        )
        for name, pairs in tables.items()
    }


def side_by_side(
    models: dict[str, tuple[Role, SentenceEncoder]],
    quality: Callable[[SentenceEncoder], Quality],
    texts: Sequence[str],
    log_history: Sequence[Mapping[str, Any]],
    **words: Any,
) -> Report:
    """Judge teacher, untrained and trained student in one run.

    Args:
        models: name -> role and model; the teacher first, if it is there.
        quality: scores a model; the first score is the report's.
        texts: unseen texts, for speed and for how far similarities agree with the teacher's.
        log_history: of the trainer.
        words: what the scores were measured on, as `build_report` takes it.
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
    return build_report(
        [ModelRow.of(name, role, model.model, found[name]) for name, (role, model) in models.items()],
        {name: model.encode for name, (_, model) in models.items()},
        texts,
        log_history,
        **words,
    )
