"""Collates groups of texts: an anchor, its positive and hard negatives; or a sentence and its translation."""

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
    """Groups of texts. The student reads all texts. The teacher reads all texts or the first text of each group.

    Attributes:
        groups: `[groups, members]`, the student's rows with the texts of each group. Smaller groups are padded with
            their last text.
        is_ragged: whether the groups have different sizes.
        scores: `[groups, members - 1]`, float32, a teacher's scores of all texts of each group except the first, padded
            with minus infinity. None if the rows have no scores.
        order: `[groups]`, the index of each group in the collator's input; None if groups were not sorted.
    """

    groups: Tensor
    is_ragged: bool = False
    scores: Tensor | None = None

    def __len__(self) -> int:
        """Number of groups."""
        return len(self.groups)


@dataclass(frozen=True)
class GroupCollator:
    """Collates groups from `tokenize_groups` to a `GroupBatch`.

    Args:
        texts: collator of all texts.
        sources: collator of the teacher's rows, the first text of each group; None if the teacher reads the student's
            inputs.

    Returns (when called with a list of rows):
        A `GroupBatch`. A single text, or a row of `input_ids` without `members`, is a group that contains it twice:
        dropout makes two embeddings of it (Gao, Yao & Chen 2021, SimCSE, section 3).

    Raises:
        ValueError: groups without scores have different sizes, scores are invalid (see `wrong_scores`), or the teacher
            has no tokens.
    """

    texts: DistillationCollator
    sources: DistillationCollator | None = None

    def __call__(self, rows: Sequence[Row]) -> GroupBatch:
        if self.sources is not None and not {"teacher_input_ids", VECTORS} & rows[0].keys():
            raise ValueError(
                f"The rows hold {', '.join(sorted(rows[0]))}, but no teacher_input_ids with the teacher's tokens of "
                "the first text of each pair. Run tokenize_groups with teacher_tokenizer=..., even if it is the "
                "student's."
            )
        rows = without_padding(rows)
        groups = [list(row["members"]) if "members" in row else [row["input_ids"]] for row in rows]
        groups = [members * 2 if len(members) == 1 else members for members in groups]
        sizes = np.array([len(members) for members in groups])
        scores = _scores(rows, sizes) if "scores" in rows[0] else None
        is_ragged = len(set(sizes)) > 1
        if is_ragged and scores is None:
            raise ValueError(f"Groups of a batch must be of equal size, but have {sizes.tolist()} texts.")
        texts = self.texts([{"input_ids": ids} for members in groups for ids in members])
        members = np.minimum(np.arange(sizes.max()), sizes[:, None] - 1) + (sizes.cumsum() - sizes)[:, None]
        places = torch.arange(len(texts))[texts.given_order][torch.from_numpy(members)]
        batch = replace(texts, order=None)
        if self.sources is not None:
            theirs = self.sources([_source(row) for row in rows])
            read = {"teacher": theirs.student, "teacher_layout": theirs.layout, "order": theirs.order}
            batch = replace(texts, **read, teacher_outputs=theirs.teacher_outputs)
        order = slice(None) if batch.order is None else batch.order
        scores = None if scores is None else scores[order]
        return batch.extended(GroupBatch, groups=places[order], is_ragged=is_ragged, scores=scores)


def _source(row: Row) -> Row:
    """The teacher's tokens as a row, with its cached outputs. Given vectors need no tokens."""
    cached = {name: value for name, value in row.items() if name.startswith("teacher_") and name != "teacher_input_ids"}
    return {"input_ids": row["teacher_input_ids"] if "teacher_input_ids" in row else row["members"][0]} | cached


def _scores(rows: Sequence[Row], sizes: np.ndarray) -> Tensor:
    """The scores of all groups, `[groups, members - 1]`, padded with minus infinity."""
    given = [np.asarray(row["scores"], dtype=np.float32) for row in rows]
    lengths = np.array([len(scores) for scores in given])
    if found := wrong_scores(sizes - 1, lengths, np.concatenate(given)):
        raise ValueError(f"Row {found[0]} of the batch {found[1]}")
    scores = np.full((len(rows), lengths.max()), -np.inf, dtype=np.float32)
    scores[np.arange(lengths.max()) < lengths[:, None]] = np.concatenate(given)
    return torch.from_numpy(scores)


def wrong_scores(documents: np.ndarray, lengths: np.ndarray, scores: np.ndarray) -> tuple[int, str] | None:
    """The first row with invalid scores, and the end of an error message with the reason; None if there is none.

    Args:
        documents: `[rows]`, number of documents of each row.
        lengths: `[rows]`, number of scores of each row.
        scores: concatenated scores of all rows.
    """

    def first(wrong: np.ndarray) -> int | None:
        return int(wrong.argmax()) if wrong.any() else None

    if (row := first(documents != lengths)) is not None:
        return row, f"has {lengths[row]} scores for {documents[row]} documents."
    if (row := first(documents < 2)) is not None:
        return row, "has a single document, so there is nothing to compare. Leave such rows out, or mine negatives."
    starts = lengths.cumsum() - lengths
    lowest, highest = np.minimum.reduceat(scores, starts), np.maximum.reduceat(scores, starts)
    if (row := first(~np.isfinite(lowest) | ~np.isfinite(highest))) is not None:
        return row, f"has a score that is not finite: {scores[starts[row] : starts[row] + lengths[row]].tolist()}."
    if (row := first(lowest == highest)) is not None:
        return row, f"has {lengths[row]} documents that all score {lowest[row]:g}. Leave such rows out."
    return None
