"""What is minimised: functions of tensors, computed in float32."""

from .distances import (
    IGNORED_LABEL,
    attention_error,
    cosine_distance,
    hard_cross_entropy,
    info_nce,
    mean_squared_error,
    relation_divergence,
    similarity_matrix_error,
    soft_cross_entropy,
    task_loss,
)
from .key_queue import KeyQueue
from .learned import LearnedCurvature, LearnedScale
from .queue_log_sum_exp import queue_log_sum_exp
from .token_contrast import draw_negatives, ignored_candidates, token_contrast
from .vocabulary import vocabulary_cross_entropy, vocabulary_divergence
