"""Custom transformers models: BiLSTMs, recurrent BERTs and static token vectors.

Importing this package registers them with the Auto classes. A saved BiLSTM or recurrent BERT includes its
`configuration_*.py` and `modeling_*.py`, which need only torch and transformers, so `trust_remote_code=True` loads it
without retort. sentence-transformers and model2vec load static token vectors with their own classes.
"""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from . import bilstm, recurrent_bert, static

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

AutoConfig.register(static.StaticConfig.model_type, static.StaticConfig)
AutoModel.register(static.StaticConfig, static.StaticModel)
