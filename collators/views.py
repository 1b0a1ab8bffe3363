"""How student and teachers want their batches."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..modeling.encoding import AttentionSettings, position_offset
from .distillation import DistillationCollator, View

logger = logging.getLogger(__name__)

# On a GPU, padded batches are as wide as a multiple of this: cuDNN plans its attention anew for each shape.
_WIDTH_MULTIPLE = 32


def collator_for(
    student: PreTrainedModel,
    teachers: Sequence[PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    teacher_tokenizer: PreTrainedTokenizerBase | None,
    *,
    attention: AttentionSettings,
) -> DistillationCollator:
    """A collator of packed batches where a model's attention takes them; else of padded ones.

    The log says in a line how each model attends, and why.

    Args:
        student: the student.
        teachers: of one kind; perhaps none.
        tokenizer: the student's.
        teacher_tokenizer: the teachers', where it differs.
        attention: where the models run, and what is asked for.
    """
    view = _view(student, tokenizer, attention, "student")
    if not teachers:
        return DistillationCollator(view)
    their_tokenizer = teacher_tokenizer or tokenizer
    theirs = {_view(teacher, their_tokenizer, attention.of_teachers(), "teacher") for teacher in teachers}
    if len(theirs) > 1:  # positions are counted differently; padded rows leave that to each model
        theirs = {_padded(teachers, their_tokenizer, attention)}
    teacher_view = theirs.pop()
    same = teacher_view == view and teacher_tokenizer is None
    return DistillationCollator(view, None if same else teacher_view)


def _view(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, attention: AttentionSettings, role: str) -> View:
    backend = attention.choose(model)
    logger.info("Attention of the %s, %s: %s.", role, type(model).__name__, backend)
    if not backend.is_packed:
        return _padded([model], tokenizer, attention)
    return View.of(model, tokenizer, packed=True, cumulative=backend.name == "varlen")


def _padded(
    models: Sequence[PreTrainedModel], tokenizer: PreTrainedTokenizerBase, attention: AttentionSettings
) -> View:
    if attention.device.type == "cpu":
        return View.of(models[0], tokenizer)
    widest = min(map(most_tokens, models))
    return View.of(models[0], tokenizer, width_multiple=_WIDTH_MULTIPLE, widest=widest)


def most_tokens(model: PreTrainedModel) -> float:
    """How many tokens a row may have; RoBERTa-likes have positions that no token ever takes, LSTMs have none."""
    positions = getattr(model.config, "max_position_embeddings", None)
    return math.inf if positions is None else positions - position_offset(model)
