"""An encoder of bidirectional LSTMs as a transformers model."""

from .configuration_bilstm import BiLstmConfig
from .modeling_bilstm import (
    BiLstmForSequenceClassification,
    BiLstmForTokenClassification,
    BiLstmModel,
    BiLstmPreTrainedModel,
)
