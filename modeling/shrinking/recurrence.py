"""Layers that are run several times, and word embeddings of two factors: a RecurrentBert."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from torch import Tensor

from ..anatomy import layers_name, split_layer_name
from ..architectures.recurrent_bert import BERT, ROBERTA, Family, RecurrentBertConfig, Task, settings
from ..encoding import position_offset
from .draft import Draft, skeleton
from .embeddings import factorise_embeddings

RANDOM = "random"


def with_recurrence(
    draft: Draft, recurrent_steps: int | None, embedding_size: int | None, embedding_init: str
) -> Draft:
    """The same student as a RecurrentBert (see `shrink`); as it is, if neither steps nor a size are given.

    Raises:
        ValueError: no steps, a size that word embeddings can't have, or a model that is no BERT or RoBERTa inside.
    """
    if recurrent_steps is None and embedding_size is None:
        return draft
    width = draft.config.hidden_size
    steps = 1 if recurrent_steps is None else recurrent_steps
    size = width if embedding_size is None else embedding_size
    if steps < 1 or not 1 <= size <= width:
        raise ValueError(
            f"recurrent_steps={steps}, embedding_size={size}: layers are run at least once, and word embeddings are 1 "
            f"to {width} wide, the hidden states' width."
        )
    family, task = _stock(draft)
    layers = draft.config.num_hidden_layers
    config = RecurrentBertConfig(
        **settings(draft.config)
        | {
            "embedding_size": size,
            "num_hidden_layers": layers * steps,
            "num_unique_layers": layers,
            "roberta_positions": family is ROBERTA,
        }
    )
    tensors = _factorised(family.to_ours(draft.tensors, task), size, embedding_init)
    return replace(draft, architecture=task.ours, config=config, tensors=tensors)


def _stock(draft: Draft) -> tuple[Family, Task]:
    """What the draft is inside. Told by its weights' names, not by its family's, of which there are many."""
    family = ROBERTA if position_offset(draft.outline) else BERT
    task = family.task_like(draft.architecture)
    strange = _names_unlike(task, family.to_ours(draft.tensors, task)) if task else list(draft.tensors)
    if strange:
        raise ValueError(
            f"{draft.architecture.__name__} has no counterpart with recurrent layers (which have no {strange[0]}). "
            "There is one of a bare BERT, RoBERTa or XLM-RoBERTa encoder, and of their models for masked LM, token "
            "and sequence classification."
        )
    return family, task


def _names_unlike(task: Task, names: Iterable[str]) -> list[str]:
    """Those that no weight of a RecurrentBert has, whatever the layer's number."""
    model = skeleton(task.ours, RecurrentBertConfig(num_hidden_layers=1, num_unique_layers=1))
    layers = layers_name(model)
    known = {split_layer_name(name, layers)[1] for name in model.state_dict()}
    return [name for name in names if split_layer_name(name, layers)[1] not in known]


def _factorised(tensors: dict[str, Tensor], size: int, embedding_init: str) -> dict[str, Tensor]:
    """The same weights with word embeddings of two factors."""
    words = next(name for name in tensors if name.endswith("embeddings.word_embeddings.weight"))
    if embedding_init == RANDOM:
        return {name: tensor for name, tensor in tensors.items() if ".embeddings." not in f".{name}"}
    if size == tensors[words].shape[1]:
        return tensors
    factor, projection = factorise_embeddings(tensors[words], size)
    return tensors | {words: factor, words.replace("word_embeddings", "projection"): projection}
