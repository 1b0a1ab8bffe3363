"""An encoder of bidirectional LSTMs as a Hugging Face model of its own.

Importing this makes the Auto classes know it. A saved model takes the two files beside this one along, which need
nothing but torch and transformers: `trust_remote_code=True` loads it elsewhere.
"""

from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from ..registration import register
from .configuration_bilstm import BiLstmConfig
from .modeling_bilstm import (
    BiLstmForSequenceClassification,
    BiLstmForTokenClassification,
    BiLstmModel,
    BiLstmPreTrainedModel,
)

register(
    BiLstmConfig,
    {
        AutoModel: BiLstmModel,
        AutoModelForTokenClassification: BiLstmForTokenClassification,
        AutoModelForSequenceClassification: BiLstmForSequenceClassification,
    },
)
