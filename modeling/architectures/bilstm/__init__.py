"""An encoder of bidirectional LSTMs as a Hugging Face model of its own."""

from .configuration_bilstm import BiLstmConfig
from .modeling_bilstm import (
    BiLstmForSequenceClassification,
    BiLstmForTokenClassification,
    BiLstmModel,
    BiLstmPreTrainedModel,
)
