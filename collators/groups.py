"""Batches of groups of texts: an anchor, its positive, and hard negatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .distillation import DistillationCollator


@dataclass(frozen=True)
class GroupCollator:
    """Makes batches of groups: all texts of all groups.

    Args:
        collator: makes a batch of texts.

    Returns (when called with a list of rows):
        What `collator` does, and `groups`, `[rows, members]`: where each group's texts are in the batch. A group of a
        single text holds it twice: dropout makes two embeddings of it (Gao, Yao & Chen 2021, SimCSE, section 3). So
        does a row of `input_ids`, which has no `members`.

    Raises:
        ValueError: groups of different sizes.
    """

    collator: DistillationCollator

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        groups = [list(row["members"]) if "members" in row else [row["input_ids"]] for row in rows]
        groups = [members * 2 if len(members) == 1 else members for members in groups]
        if len({len(members) for members in groups}) > 1:
            raise ValueError(f"Groups of a batch must be of one size, but hold {[len(g) for g in groups]} texts.")
        batch = self.collator([{"input_ids": ids} for members in groups for ids in members])
        texts = len(groups) * len(groups[0])
        places = batch.pop("order").argsort() if "order" in batch else torch.arange(texts)
        return batch | {"groups": places.view(len(groups), -1)}
