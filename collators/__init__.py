"""Rows of tokens -> batches of tensors."""

from .batch import Batch, as_batch, fractions, mixed, on_device, text_ids
from .distillation import DistillationCollator, View
from .groups import GroupCollator
from .labelled import Labelled, labelled
from .masking import EVALUATION, Filler, Masking, masking_chances
from .pairs import PairCollator
from .spans import SPAN_COLUMNS, SpanCollator
from .views import collator_for, most_tokens
