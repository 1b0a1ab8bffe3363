"""A BERT with factorised word embeddings and recurrent layers as a Hugging Face model of its own.

Importing this makes the Auto classes know it. A saved model takes the two files `…_recurrent_bert.py` along, which
need nothing but torch and transformers: `trust_remote_code=True` loads it elsewhere.
"""

from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from ..registration import register
from .configuration_recurrent_bert import RecurrentBertConfig
from .expansion import expand
from .modeling_recurrent_bert import (
    RecurrentBertForMaskedLM,
    RecurrentBertForSequenceClassification,
    RecurrentBertForTokenClassification,
    RecurrentBertModel,
    RecurrentBertPreTrainedModel,
)
from .stock import BERT, ROBERTA, Family, Task, settings

register(
    RecurrentBertConfig,
    {
        AutoModel: RecurrentBertModel,
        AutoModelForMaskedLM: RecurrentBertForMaskedLM,
        AutoModelForTokenClassification: RecurrentBertForTokenClassification,
        AutoModelForSequenceClassification: RecurrentBertForSequenceClassification,
    },
)
