"""The stock models that a RecurrentBert is made of, and made into: what their weights are called there and here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    PreTrainedConfig,
    PreTrainedModel,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
    XLMRobertaForSequenceClassification,
    XLMRobertaForTokenClassification,
    XLMRobertaModel,
)

from .modeling_recurrent_bert import (
    RecurrentBertForMaskedLM,
    RecurrentBertForSequenceClassification,
    RecurrentBertForTokenClassification,
    RecurrentBertModel,
    RecurrentBertPreTrainedModel,
)

OURS = "recurrent_bert"

# What `to_dict` says of the class and not of the model.
CLASS_ENTRIES = ("model_type", "architectures", "auto_map", "transformers_version")


@dataclass(frozen=True)
class Task:
    """A RecurrentBert and the same with stock layers.

    Attributes:
        ours: its class.
        stock: the stock model's.
        names: how the names of weights outside the encoder begin here, and there.
    """

    ours: type[RecurrentBertPreTrainedModel]
    stock: type[PreTrainedModel]
    names: Mapping[str, str]


@dataclass(frozen=True)
class Family:
    """Stock models whose encoders have the same weights.

    Attributes:
        config: the class of their configuration.
        prefix: how the names of the encoder's weights begin below a head.
        tasks: what they are made for.
    """

    config: type[PreTrainedConfig]
    prefix: str
    tasks: tuple[Task, ...]

    def task_like(self, stock: type[PreTrainedModel]) -> Task | None:
        """The task that a stock class is made for, by how its name ends: XLM-R's and CamemBERT's are RoBERTa's."""
        ending = stock.__name__.removeprefix(stock.config_class.__name__.removesuffix("Config"))
        return next((task for task in self.tasks if task.stock.__name__.endswith(ending)), None)

    def task_of(self, ours: type[RecurrentBertPreTrainedModel]) -> Task:
        """The task that a RecurrentBert is made for."""
        return next(task for task in self.tasks if task.ours is ours)

    def to_ours(self, tensors: Mapping[str, Tensor], task: Task) -> dict[str, Tensor]:
        """Weights by their names in a RecurrentBert."""
        names = {theirs: ours for ours, theirs in task.names.items()} | {f"{self.prefix}.": f"{OURS}."}
        return {_renamed(name, names): tensor for name, tensor in tensors.items()}

    def to_stock(self, tensors: Mapping[str, Tensor], task: Task) -> dict[str, Tensor]:
        """Weights by their names in a stock model."""
        names = dict(task.names) | {f"{OURS}.": f"{self.prefix}."}
        return {_renamed(name, names): tensor for name, tensor in tensors.items()}


def _renamed(name: str, beginnings: Mapping[str, str]) -> str:
    for old, new in beginnings.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def settings(config: PreTrainedConfig) -> dict[str, Any]:
    """What a configuration says of its model; what it says of its class is left out."""
    return {name: value for name, value in config.to_dict().items() if name not in CLASS_ENTRIES}


BERT = Family(
    BertConfig,
    "bert",
    (
        Task(RecurrentBertModel, BertModel, {}),
        Task(
            RecurrentBertForMaskedLM,
            BertForMaskedLM,
            {"head.transform.": "cls.predictions.transform.", "head.decoder.bias": "cls.predictions.bias"},
        ),
        Task(RecurrentBertForTokenClassification, BertForTokenClassification, {}),
        Task(RecurrentBertForSequenceClassification, BertForSequenceClassification, {}),
    ),
)

ROBERTA = Family(
    XLMRobertaConfig,
    "roberta",
    (
        Task(RecurrentBertModel, XLMRobertaModel, {}),
        Task(
            RecurrentBertForMaskedLM,
            XLMRobertaForMaskedLM,
            {
                "head.transform.dense.": "lm_head.dense.",
                "head.transform.LayerNorm.": "lm_head.layer_norm.",
                "head.decoder.bias": "lm_head.bias",
            },
        ),
        Task(RecurrentBertForTokenClassification, XLMRobertaForTokenClassification, {}),
        # RoBERTa keeps in its head what BERT calls its pooler.
        Task(
            RecurrentBertForSequenceClassification,
            XLMRobertaForSequenceClassification,
            {f"{OURS}.pooler.dense.": "classifier.dense.", "classifier.": "classifier.out_proj."},
        ),
    ),
)
