"""Rows that were padded before they reach a collator, as by `tokenizer(text, padding="max_length")`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Row = dict[str, Any]

# Columns of one value per token, and of places of tokens, of either side.
_TOKENS = (
    ("input_ids", "token_type_ids", "labels", "spans"),
    ("teacher_input_ids", "teacher_token_type_ids", "teacher_spans"),
)
_POSITIONS = "student_positions", "teacher_positions"
_MASKS = "attention_mask", "teacher_attention_mask"


def without_padding(rows: Sequence[Row]) -> list[Row]:
    """The rows without their padding, as `attention_mask` and `teacher_attention_mask` say, and without these columns.

    Labels and spans lose the same places, and positions of aligned tokens are counted anew. Where there is no column
    `teacher_input_ids`, the teacher reads the student's tokens, and `teacher_positions` count those.

    Raises:
        ValueError: a mask of another length than its row, that hides tokens between others, or an aligned token.
    """
    return [_without_padding(row, index) if row.keys() & set(_MASKS) else row for index, row in enumerate(rows)]


def _without_padding(row: Row, index: int) -> Row:
    kept = {name: value for name, value in row.items() if name not in _MASKS}
    for mask_name, tokens, positions in zip(_MASKS, _TOKENS, _POSITIONS, strict=True):
        shared = mask_name == "teacher_attention_mask" and "teacher_input_ids" not in row
        mask = row.get("attention_mask" if shared else mask_name)
        if mask is None:
            continue
        mask = _checked(np.asarray(mask, dtype=bool), row, "input_ids" if shared else tokens[0], index)
        if mask.all():
            continue
        for name in set(tokens) & row.keys():
            values = np.asarray(row[name])
            # A label of the row, or a vector of them, stays; what has a wrong length is refused by the collator.
            if values.shape == mask.shape and values.dtype.kind in "iub":
                kept[name] = values[mask]
        if positions in row:
            kept[positions] = _counted_anew(np.asarray(row[positions], dtype=np.int64), mask, positions, index)
    return kept


def _checked(mask: np.ndarray, row: Row, tokens: str, index: int) -> np.ndarray:
    if len(mask) != len(row[tokens]):
        raise ValueError(
            f"Row {index} of the batch has {len(row[tokens])} tokens ({tokens}), but its attention mask has "
            f"{len(mask)} values. Keep what the tokenizer returned together."
        )
    places = mask.nonzero()[0]
    if len(places) and places[-1] - places[0] + 1 != len(places):
        raise ValueError(
            f"The attention mask of row {index} of the batch hides tokens between others. Padding is at the beginning "
            "or at the end of a row; to leave tokens out, take them out of input_ids."
        )
    return mask


def _counted_anew(positions: np.ndarray, mask: np.ndarray, name: str, index: int) -> np.ndarray:
    """Places in a padded row -> places among the tokens that are kept."""
    if len(positions) and (positions.min() < 0 or positions.max() >= len(mask) or not mask[positions].all()):
        raise ValueError(
            f"{name} of row {index} of the batch names tokens that its attention mask leaves out, or that are not "
            "there. Align the rows before they are padded (align=True in tokenize())."
        )
    return (mask.cumsum() - 1)[positions]
