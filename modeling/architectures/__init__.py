"""Models of our own that load as any other: BiLSTMs and recurrent BERTs.

Importing this makes the Auto classes know them. A saved model takes the two files `configuration_*.py` and
`modeling_*.py` of its folder along, which need nothing but torch and transformers: `trust_remote_code=True` loads it
elsewhere.
"""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from . import bilstm, recurrent_bert

_MODELS = {
    bilstm.BiLstmConfig: {
        AutoModel: bilstm.BiLstmModel,
        AutoModelForTokenClassification: bilstm.BiLstmForTokenClassification,
        AutoModelForSequenceClassification: bilstm.BiLstmForSequenceClassification,
    },
    recurrent_bert.RecurrentBertConfig: {
        AutoModel: recurrent_bert.RecurrentBertModel,
        AutoModelForMaskedLM: recurrent_bert.RecurrentBertForMaskedLM,
        AutoModelForTokenClassification: recurrent_bert.RecurrentBertForTokenClassification,
        AutoModelForSequenceClassification: recurrent_bert.RecurrentBertForSequenceClassification,
    },
}

for _config, _models in _MODELS.items():
    AutoConfig.register(_config.model_type, _config)
    _config.register_for_auto_class()
    for _auto_class, _model in _models.items():
        _auto_class.register(_config, _model)
        _model.register_for_auto_class(_auto_class.__name__)
