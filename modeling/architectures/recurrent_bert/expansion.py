"""A RecurrentBert as a stock model, for those who won't run code from the Hub."""

from __future__ import annotations

import logging

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ...anatomy import layers_name, parameter_count, split_layer_name
from ...sharding import gathered
from .modeling_recurrent_bert import RecurrentBertPreTrainedModel
from .stock import BERT, ROBERTA, settings, task_of

logger = logging.getLogger(__name__)

# What only a RecurrentBert is configured by.
OWN_SETTINGS = ("embedding_size", "num_unique_layers", "roberta_positions")


@torch.no_grad()
def expand(student: RecurrentBertPreTrainedModel) -> PreTrainedModel:
    """Write a RecurrentBert's function as a stock BERT, or XLM-RoBERTa where positions are counted so.

    Every pass of a layer becomes a layer, and the word embeddings are multiplied by their projection. What this costs
    is logged.

    Args:
        student: the model; it stays as it is. One that DeepSpeed has sharded is gathered.

    Returns:
        A model of the same task with the same outputs, in float32 on the CPU, in evaluation mode.

    Raises:
        TypeError: another kind of model.
    """
    if not isinstance(student, RecurrentBertPreTrainedModel):
        raise TypeError(f"expand takes a RecurrentBert, but got a {type(student).__name__}, which is stock already.")
    family = ROBERTA if student.config.roberta_positions else BERT
    shared = {name: value for name, value in settings(student.config).items() if name not in OWN_SETTINGS}
    with gathered(student):
        weights = family.to_stock(_unrolled(student), task_of(type(student)))
        stock = family.stock_class(task_of(type(student))).from_pretrained(
            None, config=family.config(**shared), state_dict=weights, dtype=torch.float32
        )
        before, after = parameter_count(student), parameter_count(stock)
    stock.name_or_path = stock.config.name_or_path = ""
    logger.info(
        "%s: %d parameters, %.0f MB in float32; as %s: %d parameters, %.0f MB.",
        type(student).__name__,
        before,
        before * 4 / 1e6,
        type(stock).__name__,
        after,
        after * 4 / 1e6,
    )
    return stock


def _unrolled(student: RecurrentBertPreTrainedModel) -> dict[str, Tensor]:
    """A stock model's weights, by the names that they have in a RecurrentBert."""
    layers, depth, unique = layers_name(student), student.config.num_hidden_layers, student.config.num_unique_layers
    tied, tensors = student.all_tied_weights_keys, {}
    for name, tensor in student.state_dict().items():
        layer, part = split_layer_name(name, layers)
        names = [name] if layer is None else [f"{layers}.{place}.{part}" for place in range(layer, depth, unique)]
        # No two names may share memory: transformers takes such for a mistake when it saves them.
        tensors |= {each: tensor.detach().to("cpu", torch.float32, copy=True) for each in names if each not in tied}
    projection = next((name for name in tensors if name.endswith("embeddings.projection.weight")), None)
    if projection is not None:
        words = projection.replace("projection", "word_embeddings")
        tensors[words] = tensors[words] @ tensors.pop(projection).T
    return tensors
