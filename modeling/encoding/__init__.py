"""Running an encoder: where the tokens lie, how they attend, what is returned, how it is pooled."""

from .attention import (
    AttentionBackend,
    AttentionSettings,
    Packing,
    attending,
    enable_packing,
    packing_obstacle,
    position_offset,
    supports_packing,
)
from .encode import encode
from .layout import TokenLayout
from .outputs import EncoderOutput, OutputLayer, OutputRequest, exact_dtype
from .pooling import POOLERS, pooled_hidden_states
from .sentence_pooling import SentencePooling, read_sentence_pooling
from .tensor_group import TensorGroup
from .token_alignment import TokenAlignment
