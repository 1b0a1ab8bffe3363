"""Checks of a teacher's scores of documents, and of the sizes of groups."""

from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow.compute as pc

from ...collators import wrong_scores
from ...data import arrow_parts
from ..objectives import GroupContrastObjective, Objective, ScoreObjective


def check_groups(rows: Any, objectives: Sequence[Objective]) -> None:
    """Refuse groups with missing, uninformative or ambiguous scores, and groups of different sizes.

    The collator checks the rows of a stream.
    """
    scored = next((objective for objective in objectives if isinstance(objective, ScoreObjective)), None)
    columns = set(getattr(rows, "column_names", None) or ())
    if scored is not None and columns & {"members", "input_ids"} and "scores" not in columns:
        raise ValueError(
            f"the objective {scored.name!r} needs a teacher's scores, but there is no column 'scores'. Pass groups "
            "that have one to tokenize_groups(); score_groups() writes it."
        )
    if not isinstance(rows, datasets.Dataset):
        if scored is not None and scored.activation is None:
            raise ValueError(
                "scores of a stream can't be checked before training. Set score_activation='logits' or 'sigmoid'."
            )
        return
    if not len(rows) or "members" not in columns:  # the user's collator may make it
        return
    if any(isinstance(objective, GroupContrastObjective) for objective in objectives):
        _check_sizes(rows)
    if scored is not None:
        _check_scores(rows, scored.activation)


def _check_sizes(rows: datasets.Dataset) -> None:
    parts = arrow_parts(rows, "members")
    sizes = np.concatenate([pc.list_value_length(part["members"]).to_numpy() for _, part in parts])
    if (sizes != sizes[0]).any():
        row = int((sizes != sizes[0]).argmax())
        raise ValueError(
            f"row {row} has {sizes[row]} texts and row 0 has {sizes[0]}, but contrastive_weight needs groups of equal "
            "size. Set contrastive_weight=0, or use the same number of documents for all queries."
        )


def _check_scores(rows: datasets.Dataset, activation: str | None) -> None:
    lowest, highest = np.inf, -np.inf
    for start, part in arrow_parts(rows, "members", "scores"):
        sizes, lengths = (
            pc.fill_null(pc.list_value_length(part[name]), 0).to_numpy() for name in ("members", "scores")
        )
        scores = pc.list_flatten(part["scores"]).to_numpy(zero_copy_only=False)
        if found := wrong_scores(sizes - 1, lengths, scores):
            raise ValueError(f"row {start + found[0]} {found[1]}")
        outside = (scores <= 0) | (scores >= 1)
        if activation == "sigmoid" and outside.any():
            row = start + int(np.searchsorted(lengths.cumsum(), outside.argmax(), side="right"))
            raise ValueError(
                f"row {row} has the score {scores[outside.argmax()]:g}, which is not the sigmoid of a finite logit. If "
                "scores are logits, set score_activation='logits'. If they were rounded, clip them to 1e-6..1-1e-6."
            )
        lowest, highest = min(lowest, scores.min()), max(highest, scores.max())
    if activation is None and lowest >= 0 and highest <= 1:
        raise ValueError(
            f"all scores lie in {lowest:g}..{highest:g}, so they may be logits or probabilities. Set "
            "score_activation='sigmoid' (as CrossEncoder.predict returns by default; they are converted back to "
            "logits) or 'logits'."
        )
