"""Runs encoders: token layout, attention back ends, requested outputs and pooling."""

from .attention import (
    AttentionSettings,
    Packing,
    attending,
    enable_packing,
    packing_obstacle,
    position_count,
    position_offset,
    refuse_block_sparse,
    require_padding,
    supports_packing,
)
from .encode import encode, has_plain_output_layer
from .layout import TokenLayout, most_positions
from .outputs import EncoderOutput, OutputLayer, OutputRequest, exact_dtype
from .pooling import POOLERS, Pooling, pooled_hidden_states
from .sentence_encoder import SentenceEncoder, as_sentence_encoder, require_bidirectional
from .sentence_files import (
    INT8_RANGES_FILE,
    encoder_subfolder,
    read_int8_ranges,
    read_routes,
    read_sentence_modules,
    write_int8_ranges,
    write_sentence_modules,
)
from .sentence_format import check_static
from .sentence_modules import Dense, EmbeddingHead, Normalize, SentenceModules, takes_projector, with_projector
from .tensor_group import TensorGroup
from .token_alignment import TokenAlignment
