"""Batches of groups of texts: an anchor, its positive, and hard negatives; or a sentence and its translation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
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
        groups: `[groups, members]`, which of the student's rows are each group's texts. A group that has fewer than
            others ends with its last one again.
        is_ragged: whether there are such groups.
        scores: `[groups, members - 1]`, float32, a teacher's of all texts but the first of each group; minus infinity
            where a group has fewer. None if the rows hold none.
        order: `[groups]`, the place of each group in the list that the collator was given; None if they were not
            sorted.
    """

    groups: Tensor
    is_ragged: bool = False
    scores: Tensor | None = None

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
        ValueError: groups of different sizes without scores, scores that say nothing of their group's texts (see
            `wrong_scores`), or no tokens for the teacher.
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
        sizes = np.array([len(members) for members in groups])
        scores = _scores(rows, sizes) if "scores" in rows[0] else None
        is_ragged = len(set(sizes)) > 1
        if is_ragged and scores is None:
            raise ValueError(f"Groups of a batch must be of one size, but hold {sizes.tolist()} texts.")
        texts = self.texts([{"input_ids": ids} for members in groups for ids in members])
        members = np.minimum(np.arange(sizes.max()), sizes[:, None] - 1) + (sizes.cumsum() - sizes)[:, None]
        places = torch.arange(len(texts))[texts.given_order][torch.from_numpy(members)]
        if self.sources is None:
            grouped = {"groups": places, "is_ragged": is_ragged, "scores": scores}
            return replace(texts, order=None).extended(GroupBatch, **grouped)
        theirs = self.sources([_source(row) for row in rows])
        order = slice(None) if theirs.order is None else theirs.order
        return replace(
            texts,
            teacher=theirs.student,
            teacher_layout=theirs.layout,
            teacher_outputs=theirs.teacher_outputs,
            order=theirs.order,
        ).extended(
            GroupBatch,
            groups=places[order],
            is_ragged=is_ragged,
            scores=None if scores is None else scores[order],
        )


def _source(row: Row) -> Row:
    """The teacher's tokens as a row of their own, with what a cache holds of them; given vectors need no tokens."""
    cached = {name: value for name, value in row.items() if name.startswith("teacher_") and name != "teacher_input_ids"}
    return {"input_ids": row["teacher_input_ids"] if "teacher_input_ids" in row else row["members"][0]} | cached


def _scores(rows: Sequence[Row], sizes: np.ndarray) -> Tensor:
    """The scores of all groups, `[groups, members - 1]`, minus infinity where a group has fewer."""
    given = [np.asarray(row["scores"], dtype=np.float32) for row in rows]
    lengths = np.array([len(scores) for scores in given])
    if found := wrong_scores(sizes - 1, lengths, np.concatenate(given)):
        raise ValueError(f"Row {found[0]} of the batch {found[1]}")
    scores = np.full((len(rows), lengths.max()), -np.inf, dtype=np.float32)
    scores[np.arange(lengths.max()) < lengths[:, None]] = np.concatenate(given)
    return torch.from_numpy(scores)


def wrong_scores(documents: np.ndarray, lengths: np.ndarray, scores: np.ndarray) -> tuple[int, str] | None:
    """The first row whose scores say nothing of its documents, and why, as an error ends; None if there is none.

    Args:
        documents: `[rows]`, how many documents there are.
        lengths: `[rows]`, how many scores.
        scores: those of all rows, one after another.
    """

    def first(wrong: np.ndarray) -> int | None:
        return int(wrong.argmax()) if wrong.any() else None

    if (row := first(documents != lengths)) is not None:
        return row, f"has {lengths[row]} scores for {documents[row]} documents."
    if (row := first(documents < 2)) is not None:
        return row, "has a single document, which compares with no other. Leave such rows out, or mine negatives."
    starts = lengths.cumsum() - lengths
    lowest, highest = np.minimum.reduceat(scores, starts), np.maximum.reduceat(scores, starts)
    if (row := first(~np.isfinite(lowest) | ~np.isfinite(highest))) is not None:
        return row, f"has a score that is not finite: {scores[starts[row] : starts[row] + lengths[row]].tolist()}."
    if (row := first(lowest == highest)) is not None:
        return row, f"has {lengths[row]} documents that all score {lowest[row]:g}. Leave such rows out."
    return None
