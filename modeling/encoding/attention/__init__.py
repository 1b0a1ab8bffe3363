"""Attention back ends: `varlen` and `runs` over packed batches, and transformers' own over padded ones."""

from .block_sparse import refuse_block_sparse
from .choice import AttentionBackend, AttentionSettings, packing_obstacle
from .interface import attending, packed_pass, padded_pass
from .packing import GRANULE, Packing, rounded_up
from .probing import StoppedProbe, attends_to, first_output, is_causal, probe_tokens
from .support import enable_packing, position_count, position_offset, require_padding, supports_packing
