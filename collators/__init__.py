"""Collators: tokenised rows to batches of tensors."""

from .batch import Batch, as_batch, fractions, mixed, text_ids
from .distillation import DistillationCollator, InputFormat, collator_for, most_tokens
from .groups import GroupBatch, GroupCollator, wrong_scores
from .labelled import Labelled
from .masking import EVALUATION, Filler, MaskedBatch, Masking, masking_chances
from .padding import real_tokens
from .spans import SPAN_COLUMNS, SpanBatch, SpanCollator
