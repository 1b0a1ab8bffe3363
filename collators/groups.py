"""Batches of groups of texts: an anchor, its positive, and hard negatives; or a sentence and its translation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..data import VECTORS
from .batch import Batch
from .distillation import DistillationCollator
from .padding import Row, without_padding


@dataclass(frozen=True, eq=False, kw_only=True)
class GroupBatch(Batch):
    """Groups of texts. The student's rows are all texts; the teacher's are too, or the first text of each group.

    Attributes:
        groups: `[groups, members]`, which of the student's rows are each group's texts.
        order: `[groups]`, the place of each group in the list that the collator was given; None if they were not
            sorted.
    """

    groups: Tensor

    def __len__(self) -> int:
        """How many groups there are."""
        return len(self.groups)


@dataclass(frozen=True)
class GroupCollator:
    """Makes batches of the groups that `tokenize_groups` wrote: all texts of all groups.

    Args:
        texts: makes a batch of texts.
        sources: makes the teacher's batch, of the first text of each group under the teacher's tokenizer; None for a
            teacher that reads what the student reads.

    Returns (when called with a list of rows):
        A `GroupBatch`. A group of a single text holds it twice: dropout makes two embeddings of it (Gao, Yao & Chen
        2021, SimCSE, section 3). So does a row of `input_ids`, which has no `members`.

    Raises:
        ValueError: groups of different sizes, or no tokens for the teacher.
    """

    texts: DistillationCollator
    sources: DistillationCollator | None = None

    def __call__(self, rows: Sequence[Row]) -> GroupBatch:
        if self.sources is not None and not {"teacher_input_ids", VECTORS} & rows[0].keys():
            raise ValueError(
                f"The rows hold {', '.join(sorted(rows[0]))}, but no teacher_input_ids: tokens of the first text of "
                "each pair for the teacher. Run tokenize_groups with teacher_tokenizer=..., be it the student's."
            )
        rows = without_padding(rows)
        groups = [list(row["members"]) if "members" in row else [row["input_ids"]] for row in rows]
        groups = [members * 2 if len(members) == 1 else members for members in groups]
        if len({len(members) for members in groups}) > 1:
            raise ValueError(f"Groups of a batch must be of one size, but hold {[len(g) for g in groups]} texts.")
        texts = self.texts([{"input_ids": ids} for members in groups for ids in members])
        places = torch.arange(len(texts))[texts.given_order].view(len(groups), -1)
        if self.sources is None:
            return replace(texts, order=None).extended(GroupBatch, groups=places)
        theirs = self.sources([_source(row) for row in rows])
        return replace(
            texts,
            teacher=theirs.student,
            teacher_layout=theirs.layout,
            teacher_outputs=theirs.teacher_outputs,
            order=theirs.order,
        ).extended(GroupBatch, groups=places if theirs.order is None else places[theirs.order])


def _source(row: Row) -> Row:
    """The teacher's tokens as a row of their own, with what a cache holds of them; given vectors need no tokens."""
    cached = {name: value for name, value in row.items() if name.startswith("teacher_") and name != "teacher_input_ids"}
    return {"input_ids": row["teacher_input_ids"] if "teacher_input_ids" in row else row["members"][0]} | cached
