"""An encoder of bidirectional LSTMs as a Hugging Face model of its own.

Importing this makes the Auto classes know it. A saved model takes the two files beside this one along, which need
nothing but torch and transformers: `trust_remote_code=True` loads it elsewhere.
"""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from .configuration_bilstm import BiLstmConfig
from .modeling_bilstm import (
    BiLstmForSequenceClassification,
    BiLstmForTokenClassification,
    BiLstmModel,
    BiLstmPreTrainedModel,
)

AutoConfig.register(BiLstmConfig.model_type, BiLstmConfig)
BiLstmConfig.register_for_auto_class()
for auto_class, model_class in (
    (AutoModel, BiLstmModel),
    (AutoModelForTokenClassification, BiLstmForTokenClassification),
    (AutoModelForSequenceClassification, BiLstmForSequenceClassification),
):
    auto_class.register(BiLstmConfig, model_class)
    model_class.register_for_auto_class(auto_class.__name__)

__all__ = [
    "BiLstmConfig",
    "BiLstmForSequenceClassification",
    "BiLstmForTokenClassification",
    "BiLstmModel",
    "BiLstmPreTrainedModel",
]
