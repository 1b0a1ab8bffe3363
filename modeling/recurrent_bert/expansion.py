"""A RecurrentBert as a stock model, for those who won't run code from the Hub."""

from __future__ import annotations

import logging

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from ..anatomy import layers_name, parameter_count, split_layer_name
from ..sharding import gathered
from .configuration_recurrent_bert import RecurrentBertConfig
from .modeling_recurrent_bert import RecurrentBertPreTrainedModel
from .stock import BERT, ROBERTA, settings

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
    config = student.config
    family = ROBERTA if config.roberta_positions else BERT
    task = family.task_of(type(student))
    with gathered(student):
        stock = task.stock.from_pretrained(
            None,
            config=stock_config(config),
            state_dict=family.to_stock(_unrolled(student), task),
            dtype=torch.float32,
        )
    stock.name_or_path = stock.config.name_or_path = ""
    sizes = [sum(p.numel() * 4 for p in model.parameters()) / 1e6 for model in (student, stock)]
    logger.info(
        "%s: %d parameters, %.0f MB in float32; as %s: %d parameters, %.0f MB.",
        type(student).__name__,
        parameter_count(student),
        sizes[0],
        type(stock).__name__,
        parameter_count(stock),
        sizes[1],
    )
    return stock


def stock_config(config: RecurrentBertConfig) -> PreTrainedConfig:
    """The configuration of the stock model with the same outputs."""
    shared = {name: value for name, value in settings(config).items() if name not in OWN_SETTINGS}
    return (ROBERTA if config.roberta_positions else BERT).config(**shared)


def _unrolled(student: RecurrentBertPreTrainedModel) -> dict[str, torch.Tensor]:
    """A stock model's weights, by the names that they have in a RecurrentBert."""
    layers, unique = layers_name(student), student.config.num_unique_layers
    tensors = {}
    tied = student.all_tied_weights_keys
    for name, tensor in student.state_dict().items():
        tensor = tensor.detach().to("cpu", torch.float32, copy=True)
        layer, part = split_layer_name(name, layers)
        if layer is not None:
            for copy_of in range(layer, student.config.num_hidden_layers, unique):
                tensors[f"{layers}.{copy_of}.{part}"] = tensor.clone()
        elif name not in tied:
            tensors[name] = tensor
    projection = next((name for name in tensors if name.endswith("embeddings.projection.weight")), None)
    if projection is not None:
        words = projection.replace("projection", "word_embeddings")
        tensors[words] = tensors[words] @ tensors.pop(projection).T
    return tensors
