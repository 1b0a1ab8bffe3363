"""Builds RecurrentBert students: layers that run several times, and factorised word embeddings."""

from collections.abc import Iterable
from dataclasses import replace

from torch import Tensor
from transformers import PreTrainedModel

from ..anatomy import layers_name, split_layer_name
from ..architectures.recurrent_bert import BERT, ROBERTA, RecurrentBertConfig, recurrent_class, settings, task_of
from ..encoding import position_offset
from .draft import Draft, skeleton
from .embeddings import factorise_embeddings

RANDOM = "random"


def with_recurrence(
    draft: Draft, recurrent_steps: int | None, embedding_size: int | None, embedding_init: str
) -> Draft:
    """The same student as a RecurrentBert (see `shrink`); unchanged if neither steps nor a size are given."""
    if recurrent_steps is None and embedding_size is None:
        return draft
    if hasattr(draft.config, "num_unique_layers"):
        raise ValueError(
            f"The teacher is a {draft.architecture.__name__} already. recurrent_steps and embedding_size need a stock "
            "BERT or RoBERTa. Select layers without them, or expand() the teacher first."
        )
    width = draft.config.hidden_size
    steps = 1 if recurrent_steps is None else recurrent_steps
    size = width if embedding_size is None else embedding_size
    if steps < 1 or not 1 <= size <= width:
        raise ValueError(
            f"recurrent_steps={steps}, embedding_size={size}: expected at least 1 step, and a size of 1 to {width}, "
            "the width of the hidden states."
        )
    # Many families have the same weights as BERT or RoBERTa, which differ in their positions.
    family = ROBERTA if position_offset(draft.outline) else BERT
    task = task_of(draft.architecture)
    architecture, tensors = recurrent_class(task), family.to_ours(draft.tensors, task)
    if unknown := _unknown_names(architecture, tensors):
        raise ValueError(
            f"{draft.architecture.__name__} has no counterpart with recurrent layers (RecurrentBert has no "
            f"{unknown[0]}). Supported are bare BERT, RoBERTa and XLM-RoBERTa encoders, and their models for masked "
            "LM, token and sequence classification."
        )
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
    tensors = _factorised(tensors, size, embedding_init)
    return replace(draft, architecture=architecture, config=config, tensors=tensors)


def _unknown_names(architecture: type[PreTrainedModel] | None, names: Iterable[str]) -> list[str]:
    """The weight names that a RecurrentBert doesn't have, ignoring layer numbers; all names if there is no class."""
    if architecture is None:
        return list(names)
    model = skeleton(architecture, RecurrentBertConfig(num_hidden_layers=1, num_unique_layers=1))
    layers = layers_name(model)
    known = {split_layer_name(name, layers)[1] for name in model.state_dict()}
    return [name for name in names if split_layer_name(name, layers)[1] not in known]


def _factorised(tensors: dict[str, Tensor], size: int, embedding_init: str) -> dict[str, Tensor]:
    """The same weights with factorised word embeddings."""
    words = next(name for name in tensors if name.endswith("embeddings.word_embeddings.weight"))
    if embedding_init == RANDOM:
        return {name: tensor for name, tensor in tensors.items() if ".embeddings." not in f".{name}"}
    if size == tensors[words].shape[1]:
        return tensors
    factor, projection = factorise_embeddings(tensors[words], size)
    return tensors | {words: factor, words.replace("word_embeddings", "projection"): projection}
