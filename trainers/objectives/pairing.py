"""Which token of the student goes with which of the teacher's."""

from __future__ import annotations

from torch import Tensor

from ...collators import Batch, labelled


def first_tokens(student: Tensor, teacher: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """The states of each row's first token on both sides, `[rows, size]` each."""
    return batch["layout"].first(student), batch.get("teacher_layout", batch["layout"]).first(teacher)


def mean_tokens(student: Tensor, teacher: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """The mean of each row's states on both sides, `[rows, size]` each."""
    return batch["layout"].mean(student), batch.get("teacher_layout", batch["layout"]).mean(teacher)


def aligned_tokens(student: Tensor, teacher: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Pair token vectors: of the same tokens, or of those that two tokenizers have for the same text."""
    if "alignment" not in batch:
        return student, teacher
    return batch["alignment"].of_student(student), batch["alignment"].of_teacher(teacher)


def pair_count(batch: Batch) -> int:
    """How many pairs `aligned_tokens` gives."""
    return len(batch["alignment"]) if "alignment" in batch else batch["layout"].tokens


def _labelled(batch: Batch) -> Tensor | None:
    """The student's tokens that take part: those with a label, and all of a row without any; None for all."""
    if "labels" not in batch or "alignment" in batch or batch["labels"].dim() == 1:
        return None
    return labelled(batch).compared


def paired_tokens(student: Tensor, teacher: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """As `aligned_tokens`; of rows that have labels, those tokens alone that carry one."""
    student, teacher = aligned_tokens(student, teacher, batch)
    known = _labelled(batch)
    return (student, teacher) if known is None else (student[known], teacher[known])


def token_count(batch: Batch) -> int:
    """How many pairs `paired_tokens` gives."""
    known = _labelled(batch)
    return pair_count(batch) if known is None else len(known)
