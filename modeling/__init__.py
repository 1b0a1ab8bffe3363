"""Models and tensors: encoders and their outputs, students, losses. Imports nothing of the other folders."""

from . import losses
from .anatomy import (
    attention_projections,
    encoder_layers,
    is_row_wise,
    layers_in_order,
    layers_name,
    parameter_count,
    parts_between_layers,
    split_layer_name,
)
from .architectures.recurrent_bert import expand
from .architectures.static import StaticModel, static_tokenizer
from .batching import map_batches
from .distillation_model import DistillationModel, StudentOutput
from .loading import (
    AUTO_CLASSES,
    auto_class_for,
    encoder_class,
    from_config,
    head_of,
    load_encoder,
    load_finished,
    require_weights,
    without_decoder,
)
from .memory import bound_kernel_cache, keep_freed_memory, release_memory
from .modes import callable_in_parts, evaluating, gathered, is_sharded, replaced, reshard, shard_like, unsharded
from .presence import has_files_of, require_model
from .projected_classifier import PROJECTOR, add_projector, projected_classifier, stock_classifier
from .shrinking import bilstm_student, shrink, static_outline, static_student
