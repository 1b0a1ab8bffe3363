"""An encoder of static token vectors as a transformers model, in the format of model2vec."""

from .configuration_static import StaticConfig
from .modeling_static import StaticModel
from .tokenizer import static_tokenizer
