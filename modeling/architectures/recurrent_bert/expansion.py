"""Converts a RecurrentBert into a stock model that needs no remote code, and maps weight names between the two."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import BertConfig, PreTrainedConfig, PreTrainedModel, XLMRobertaConfig

from ...anatomy import layers_name, parameter_count, split_layer_name
from ...modes import gathered
from . import modeling_recurrent_bert as recurrent

logger = logging.getLogger(__name__)

# Entries of `to_dict` that describe the class and not the model.
CLASS_ENTRIES = ("model_type", "architectures", "auto_map", "transformers_version")

# Entries that exist only in a RecurrentBert's configuration.
OWN_SETTINGS = ("embedding_size", "num_unique_layers", "roberta_positions")


@dataclass(frozen=True)
class Family:
    """Stock models whose encoders have the same weights.

    Attributes:
        config: their configuration class.
        prefix: prefix of the encoder's weight names in a model with a head.
        head_names: for each task, prefixes of weight names outside the encoder that differ: prefix in a RecurrentBert
            -> prefix in the stock model.
    """

    config: type[PreTrainedConfig]
    prefix: str
    head_names: Mapping[str, Mapping[str, str]]

    def stock_class(self, task: str) -> type[PreTrainedModel]:
        """The stock class for a task."""
        return getattr(transformers, self.config.__name__.removesuffix("Config") + task)

    def to_ours(self, tensors: Mapping[str, Tensor], task: str) -> dict[str, Tensor]:
        """Rename the weights of a stock model to their names in a RecurrentBert."""
        return _renamed(tensors, {theirs: ours for ours, theirs in self._names(task).items()})

    def to_stock(self, tensors: Mapping[str, Tensor], task: str) -> dict[str, Tensor]:
        """Rename the weights of a RecurrentBert to their names in the stock model."""
        return _renamed(tensors, self._names(task))

    def _names(self, task: str) -> dict[str, str]:
        return {**self.head_names.get(task, {}), "recurrent_bert.": f"{self.prefix}."}


def task_of(architecture: type[PreTrainedModel]) -> str:
    """The end of a model's class name: `ForMaskedLM`, ..., or `Model` for an encoder without a head."""
    return architecture.__name__.removeprefix(architecture.config_class.__name__.removesuffix("Config"))


def recurrent_class(task: str) -> type[recurrent.RecurrentBertPreTrainedModel] | None:
    """The RecurrentBert class for a task; None if there is no such class."""
    name = f"RecurrentBert{task}"
    return getattr(recurrent, name) if name in recurrent.__all__ else None


def settings(config: PreTrainedConfig) -> dict[str, Any]:
    """The entries of a configuration that describe its model, without those that describe its class."""
    return {name: value for name, value in config.to_dict().items() if name not in CLASS_ENTRIES}


def _renamed(tensors: Mapping[str, Tensor], beginnings: Mapping[str, str]) -> dict[str, Tensor]:
    """The same tensors, with the first matching prefix of each name replaced."""
    found = {name: next((old for old in beginnings if name.startswith(old)), "") for name in tensors}
    return {beginnings.get(old, "") + name.removeprefix(old): tensors[name] for name, old in found.items()}


BERT = Family(
    BertConfig,
    "bert",
    {"ForMaskedLM": {"head.transform.": "cls.predictions.transform.", "head.decoder.bias": "cls.predictions.bias"}},
)
ROBERTA = Family(
    XLMRobertaConfig,
    "roberta",
    {
        "ForMaskedLM": {
            "head.transform.dense.": "lm_head.dense.",
            "head.transform.LayerNorm.": "lm_head.layer_norm.",
            "head.decoder.bias": "lm_head.bias",
        },
        # RoBERTa's classification head holds the layer that is BERT's pooler.
        "ForSequenceClassification": {
            "recurrent_bert.pooler.dense.": "classifier.dense.",
            "classifier.": "classifier.out_proj.",
        },
    },
)


@torch.no_grad()
def expand(student: recurrent.RecurrentBertPreTrainedModel) -> PreTrainedModel:
    """Convert a RecurrentBert into a stock BERT, or into an XLM-RoBERTa if it counts positions as RoBERTa does.

    Every call of a layer becomes a layer, and the word embeddings are multiplied by their projection. The sizes before
    and after are logged.

    Args:
        student: the model; not changed. Parameters that DeepSpeed has sharded are gathered.

    Returns:
        A model for the same task with the same outputs, in float32 on the CPU, in evaluation mode.

    Raises:
        TypeError: the model is not a RecurrentBert.
    """
    if not isinstance(student, recurrent.RecurrentBertPreTrainedModel):
        raise TypeError(f"expand takes a RecurrentBert, but got a {type(student).__name__}, which is stock already.")
    family = ROBERTA if student.config.roberta_positions else BERT
    shared = {name: value for name, value in settings(student.config).items() if name not in OWN_SETTINGS}
    with gathered(student):
        weights = family.to_stock(_unrolled(student), task_of(type(student)))
        stock = family.stock_class(task_of(type(student))).from_pretrained(
            None, config=family.config(**shared), state_dict=weights, dtype=torch.float32
        )
        counts = [(each, parameter_count(each)) for each in (student, stock)]
    stock.name_or_path = stock.config.name_or_path = ""
    sizes = [f"{type(each).__name__}: {n} parameters, {n * 4 / 1e6:.0f} MB in float32" for each, n in counts]
    logger.info("%s; as %s.", *sizes)
    return stock


def _unrolled(student: recurrent.RecurrentBertPreTrainedModel) -> dict[str, Tensor]:
    """The weights of the stock model, named as in a RecurrentBert."""
    layers, depth, unique = layers_name(student), student.config.num_hidden_layers, student.config.num_unique_layers
    tied, tensors = student.all_tied_weights_keys, {}
    for name, tensor in student.state_dict().items():
        layer, part = split_layer_name(name, layers)
        names = [name] if layer is None else [f"{layers}.{place}.{part}" for place in range(layer, depth, unique)]
        # Each name needs its own memory: transformers refuses to save tensors that share it.
        tensors |= {each: tensor.detach().to("cpu", torch.float32, copy=True) for each in names if each not in tied}
    projection = next((name for name in tensors if name.endswith("embeddings.projection.weight")), None)
    if projection is not None:
        words = projection.replace("projection", "word_embeddings")
        tensors[words] = tensors[words] @ tensors.pop(projection).T
    return tensors
