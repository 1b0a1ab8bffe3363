"""Batches of groups of texts: an anchor, its positive, and hard negatives; or a sentence and its translation."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .batch import Batch
from .distillation import DistillationCollator
from .padding import Row, without_padding


@dataclass(frozen=True)
class GroupCollator:
    """Makes batches of the groups that `tokenize_groups` wrote: all texts of all groups.

    Args:
        texts: makes a batch of texts.
        sources: makes the teacher's batch, of the first text of each group under the teacher's tokenizer; None for a
            teacher that reads what the student reads.

    Returns (when called with a list of rows):
        What `texts` does, and `groups`, `[rows, members]`: where each group's texts are in the batch. A group of a
        single text holds it twice: dropout makes two embeddings of it (Gao, Yao & Chen 2021, SimCSE, section 3). So
        does a row of `input_ids`, which has no `members`. With `sources` also `teacher`, `teacher_layout` (and
        `teacher_outputs`, of cached columns); `groups` is in their order.

    Raises:
        ValueError: groups of different sizes, or no tokens for the teacher.
    """

    texts: DistillationCollator
    sources: DistillationCollator | None = None

    def __call__(self, rows: Sequence[Row]) -> Batch:
        if self.sources is not None and "teacher_input_ids" not in rows[0]:
            raise ValueError(
                f"The rows hold {', '.join(sorted(rows[0]))}, but no teacher_input_ids: tokens of the first text of "
                "each pair for the teacher. Run tokenize_groups with teacher_tokenizer=..., be it the student's."
            )
        rows = without_padding(rows)
        groups = [list(row["members"]) if "members" in row else [row["input_ids"]] for row in rows]
        groups = [members * 2 if len(members) == 1 else members for members in groups]
        if len({len(members) for members in groups}) > 1:
            raise ValueError(f"Groups of a batch must be of one size, but hold {[len(g) for g in groups]} texts.")
        batch = self.texts([{"input_ids": ids} for members in groups for ids in members])
        texts = len(groups) * len(groups[0])
        places = batch.pop("order").argsort() if "order" in batch else torch.arange(texts)
        batch["groups"] = places.view(len(groups), -1)
        if self.sources is None:
            return batch
        theirs = self.sources([_source(row) for row in rows])
        batch |= {"teacher": theirs["student"], "teacher_layout": theirs["layout"]}
        if "teacher_outputs" in theirs:
            batch["teacher_outputs"] = theirs["teacher_outputs"]
        if "order" in theirs:
            batch |= {"groups": batch["groups"][theirs["order"]], "order": theirs["order"]}
        return batch


def _source(row: Row) -> Row:
    """The teacher's tokens as a row of their own, with what a cache holds of them."""
    cached = {name: value for name, value in row.items() if name.startswith("teacher_") and name != "teacher_input_ids"}
    return {"input_ids": row["teacher_input_ids"]} | cached
