"""A BERT with factorised word embeddings and recurrent layers as a transformers model."""

from .configuration_recurrent_bert import RecurrentBertConfig
from .expansion import BERT, ROBERTA, expand, recurrent_class, settings, task_of
from .modeling_recurrent_bert import (
    RecurrentBertForMaskedLM,
    RecurrentBertForSequenceClassification,
    RecurrentBertForTokenClassification,
    RecurrentBertModel,
    RecurrentBertPreTrainedModel,
)
