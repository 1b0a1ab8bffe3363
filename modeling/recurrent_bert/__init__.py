"""A BERT with factorised word embeddings and recurrent layers as a Hugging Face model of its own.

Importing this makes the Auto classes know it. A saved model takes the two files `…_recurrent_bert.py` along, which
need nothing but torch and transformers: `trust_remote_code=True` loads it elsewhere.
"""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from .configuration_recurrent_bert import RecurrentBertConfig
from .modeling_recurrent_bert import (
    RecurrentBertForMaskedLM,
    RecurrentBertForSequenceClassification,
    RecurrentBertForTokenClassification,
    RecurrentBertModel,
    RecurrentBertPreTrainedModel,
)

AutoConfig.register(RecurrentBertConfig.model_type, RecurrentBertConfig)
RecurrentBertConfig.register_for_auto_class()
for auto_class, model_class in (
    (AutoModel, RecurrentBertModel),
    (AutoModelForMaskedLM, RecurrentBertForMaskedLM),
    (AutoModelForTokenClassification, RecurrentBertForTokenClassification),
    (AutoModelForSequenceClassification, RecurrentBertForSequenceClassification),
):
    auto_class.register(RecurrentBertConfig, model_class)
    model_class.register_for_auto_class(auto_class.__name__)

__all__ = [
    "RecurrentBertConfig",
    "RecurrentBertForMaskedLM",
    "RecurrentBertForSequenceClassification",
    "RecurrentBertForTokenClassification",
    "RecurrentBertModel",
    "RecurrentBertPreTrainedModel",
]
