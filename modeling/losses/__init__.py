"""Losses: functions of tensors, computed in float32."""

from .bounded import BoundedNumber
from .contrastive import KeyQueue, LearnedScale, info_nce, queue_log_sum_exp
from .distillation import (
    IGNORED_LABEL,
    attention_error,
    binary_cross_entropy,
    binary_divergence,
    cosine_distance,
    hard_cross_entropy,
    margin_error,
    mean_squared_error,
    relation_divergence,
    similarity_matrix_error,
    soft_cross_entropy,
    task_loss,
)
from .hyperbolic import LearnedCurvature
from .quantization import EmbeddingQuantizer, binary_codes, cosines_of_signs, int8_codes
from .token_contrast import draw_negatives, ignored_candidates, token_contrast
from .vocabulary import vocabulary_cross_entropy, vocabulary_divergence, vocabulary_loss
