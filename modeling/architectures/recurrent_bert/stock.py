"""The stock models that a RecurrentBert is made from and expanded to, and the names of their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import transformers
from torch import Tensor
from transformers import BertConfig, PreTrainedConfig, PreTrainedModel, XLMRobertaConfig

from . import modeling_recurrent_bert as recurrent

# Entries of `to_dict` that describe the class and not the model.
CLASS_ENTRIES = ("model_type", "architectures", "auto_map", "transformers_version")


@dataclass(frozen=True)
class Family:
    """Stock models whose encoders have the same weights.

    Attributes:
        config: the class of their configuration.
        prefix: how the names of the encoder's weights begin below a head.
        head_names: task -> how names of weights outside the encoder begin in a RecurrentBert -> how they begin in the
            stock model; where these differ.
    """

    config: type[PreTrainedConfig]
    prefix: str
    head_names: Mapping[str, Mapping[str, str]]

    def stock_class(self, task: str) -> type[PreTrainedModel]:
        """The stock class for a task."""
        return getattr(transformers, self.config.__name__.removesuffix("Config") + task)

    def to_ours(self, tensors: Mapping[str, Tensor], task: str) -> dict[str, Tensor]:
        """Weights of a stock model by their names in a RecurrentBert."""
        return _renamed(tensors, {theirs: ours for ours, theirs in self._names(task).items()})

    def to_stock(self, tensors: Mapping[str, Tensor], task: str) -> dict[str, Tensor]:
        """Weights of a RecurrentBert by their names in the stock model."""
        return _renamed(tensors, self._names(task))

    def _names(self, task: str) -> dict[str, str]:
        return {**self.head_names.get(task, {}), "recurrent_bert.": f"{self.prefix}."}


def task_of(architecture: type[PreTrainedModel]) -> str:
    """The end of a model's class name: `ForMaskedLM`, ..., or `Model` for an encoder without a head."""
    return architecture.__name__.removeprefix(architecture.config_class.__name__.removesuffix("Config"))


def recurrent_class(task: str) -> type[recurrent.RecurrentBertPreTrainedModel] | None:
    """The RecurrentBert for a task; None where there is none."""
    name = f"RecurrentBert{task}"
    return getattr(recurrent, name) if name in recurrent.__all__ else None


def settings(config: PreTrainedConfig) -> dict[str, Any]:
    """The entries of a configuration that describe its model, without those that describe its class."""
    return {name: value for name, value in config.to_dict().items() if name not in CLASS_ENTRIES}


def _renamed(tensors: Mapping[str, Tensor], beginnings: Mapping[str, str]) -> dict[str, Tensor]:
    """The same tensors; in each name the first of these beginnings that it has is replaced."""
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
