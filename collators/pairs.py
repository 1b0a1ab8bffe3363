"""Batches of sentences and their translations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .distillation import DistillationCollator
from .groups import GroupCollator


@dataclass(frozen=True)
class PairCollator:
    """Makes batches of sentences and their translations: both for the student, the sentences for the teacher.

    Args:
        texts: makes the student's.
        sources: makes the teacher's, from its own tokens.

    Returns (when called with rows of `tokenize_groups(…, teacher_tokenizer=…)`):
        What `texts` does, and `teacher`, `teacher_layout` (and `teacher_outputs`, of cached columns): of the first text
        of each group. `groups` is in their order.
    """

    texts: GroupCollator
    sources: DistillationCollator

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        if "teacher_input_ids" not in rows[0]:
            raise ValueError(
                f"The rows hold {', '.join(sorted(rows[0]))}, but no teacher_input_ids: tokens of the first text of "
                "each pair for the teacher. Run tokenize_groups with teacher_tokenizer=..., be it the student's."
            )
        batch = self.texts(rows)
        theirs = self.sources([_as_text(row) for row in rows])
        batch |= {"teacher": theirs["student"], "teacher_layout": theirs["layout"]}
        if "teacher_outputs" in theirs:
            batch["teacher_outputs"] = theirs["teacher_outputs"]
        if "order" in theirs:
            batch |= {"groups": batch["groups"][theirs["order"]], "order": theirs["order"]}
        return batch


def _as_text(row: dict[str, Any]) -> dict[str, Any]:
    cached = {name: value for name, value in row.items() if name.startswith("teacher_") and name != "teacher_input_ids"}
    return {"input_ids": row["teacher_input_ids"]} | cached
