"""How student and teachers want their batches."""

from __future__ import annotations

import math
from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..modeling import is_row_wise
from ..modeling.encoding import enable_packing, position_offset, supports_packing
from .distillation import DistillationCollator, View


def collator_for(
    student: PreTrainedModel,
    teachers: Sequence[PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    teacher_tokenizer: PreTrainedTokenizerBase | None,
    *,
    packing: bool,
) -> DistillationCollator:
    """A collator of packed batches where an architecture allows, which is made ready for them; else of padded ones.

    Args:
        student: the student.
        teachers: of one kind; perhaps none.
        tokenizer: the student's.
        teacher_tokenizer: the teachers', where it differs.
        packing: whether batches may be packed at all.
    """
    view = View.of(student, tokenizer, packed=packing and packs(student))
    if view.packed:
        enable_packing(student)
    if not teachers:
        return DistillationCollator(view)
    their_tokenizer = teacher_tokenizer or tokenizer
    theirs = {View.of(t, their_tokenizer, packed=packing and all(map(packs, teachers))) for t in teachers}
    if len(theirs) > 1:  # positions are counted differently; padded rows leave that to each model
        theirs = {View.of(teachers[0], their_tokenizer, packed=False)}
    teacher_view = theirs.pop()
    if teacher_view.packed:
        for model in teachers:
            enable_packing(model)
    same = teacher_view == view and teacher_tokenizer is None
    return DistillationCollator(view, None if same else teacher_view)


def packs(model: PreTrainedModel) -> bool:
    """Whether a model is fed packed batches: its architecture takes them, and its head does not read whole rows."""
    return supports_packing(model) and not is_row_wise(model)


def most_tokens(model: PreTrainedModel) -> float:
    """How many tokens a row may have; RoBERTa-likes have positions that no token ever takes, LSTMs have none."""
    positions = getattr(model.config, "max_position_embeddings", None)
    return math.inf if positions is None else positions - position_offset(model)
