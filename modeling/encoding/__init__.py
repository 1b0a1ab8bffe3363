"""Running an encoder: where the tokens lie, how they attend, what is returned, how it is pooled."""

from .encode import encode
from .layout import TokenLayout
from .outputs import EncoderOutput, OutputLayer, OutputRequest, exact_dtype
from .packing import Packing, enable_packing, position_offset, supports_packing
from .pooling import POOLERS, pooled_hidden_states
from .sentence_pooling import SentencePooling, read_sentence_pooling
from .token_alignment import TokenAlignment
