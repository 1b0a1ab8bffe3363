"""Removes padding from rows that were padded before collation, as by `tokenizer(text, padding="max_length")`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Row = dict[str, Any]

# Columns with one value per token, and columns with positions of tokens, for student and teacher.
_TOKENS = (
    ("input_ids", "token_type_ids", "labels", "spans"),
    ("teacher_input_ids", "teacher_token_type_ids", "teacher_spans"),
)
_POSITIONS = "student_positions", "teacher_positions"
_MASKS = "attention_mask", "teacher_attention_mask"


def without_padding(rows: Sequence[Row]) -> list[Row]:
    """The rows without their padding and without the columns `attention_mask` and `teacher_attention_mask`.

    Labels and spans are shortened alike, and positions of aligned tokens are updated. Without a column
    `teacher_input_ids`, the teacher reads the student's tokens, to which `teacher_positions` then refer.

    Raises:
        ValueError: a mask doesn't have the length of its row, has other values than 0 and 1, masks tokens between
            others, or masks an aligned token.
    """
    return [_without_padding(row, index) if row.keys() & set(_MASKS) else row for index, row in enumerate(rows)]


def real_tokens(ids: pa.Array, mask: pa.Array | None, first_row: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The number of tokens of each row `[rows]`, and the tokens of all rows one after the other, without padding.

    Args:
        ids: lists of token ids.
        mask: lists of the same lengths, 1 at tokens and 0 at padding; None if there is no padding.
        first_row: number of the first row, for messages.

    Raises:
        ValueError: a mask doesn't have the length of its row, or has other values than 0 and 1.
    """
    lengths = pc.list_value_length(ids).to_numpy(zero_copy_only=False)
    tokens = pc.list_flatten(ids).to_numpy(zero_copy_only=False)
    if mask is None:
        return lengths, tokens
    mask_lengths = pc.list_value_length(mask).fill_null(0).to_numpy(zero_copy_only=False)
    if (wrong := lengths != mask_lengths).any():
        row = wrong.argmax()
        raise ValueError(f"row {first_row + row} has {_other_length(lengths[row], mask_lengths[row])}")
    flat = pc.list_flatten(mask)
    values = flat.to_numpy(zero_copy_only=False)
    row_of = np.repeat(np.arange(len(lengths)), lengths)
    if not (zero_or_one := (values == 0) | (values == 1)).all():
        wrong_value = zero_or_one.argmin()
        raise ValueError(f"row {first_row + row_of[wrong_value]} has {_other_value(flat[wrong_value].as_py())}")
    kept = values.astype(bool)
    return np.bincount(row_of[kept], minlength=len(lengths)), tokens[kept]


def _other_length(tokens: int, values: int) -> str:
    return f"{tokens} tokens, but its attention mask has {values} values. Keep all columns that the tokenizer returned."


def _other_value(value: object) -> str:
    return f"an attention mask with the value {value}. Masks are 1 at tokens and 0 at padding."


def _without_padding(row: Row, index: int) -> Row:
    kept = {name: value for name, value in row.items() if name not in _MASKS}
    for mask_name, tokens, positions in zip(_MASKS, _TOKENS, _POSITIONS, strict=True):
        shared = mask_name == "teacher_attention_mask" and "teacher_input_ids" not in row
        mask = row.get("attention_mask" if shared else mask_name)
        if mask is None:
            continue
        mask = _checked(np.asarray(mask), row, "input_ids" if shared else tokens[0], index)
        if mask.all():
            continue
        for name in set(tokens) & row.keys():
            values = np.asarray(row[name])
            # Labels of a whole row are kept. The collator refuses columns of a wrong length.
            if values.shape == mask.shape and values.dtype.kind in "iub":
                kept[name] = values[mask]
        if positions in row:
            kept[positions] = _counted_anew(np.asarray(row[positions], dtype=np.int64), mask, positions, index)
    return kept


def _checked(mask: np.ndarray, row: Row, tokens: str, index: int) -> np.ndarray:
    if len(mask) != len(row[tokens]):
        raise ValueError(f"Row {index} of the batch has {_other_length(len(row[tokens]), len(mask))}")
    if not (zero_or_one := (mask == 0) | (mask == 1)).all():
        raise ValueError(f"Row {index} of the batch has {_other_value(mask[zero_or_one.argmin()])}")
    mask = mask.astype(bool)
    places = mask.nonzero()[0]
    if len(places) and places[-1] - places[0] + 1 != len(places):
        raise ValueError(
            f"The attention mask of row {index} of the batch hides tokens between others. Padding must be at the "
            "beginning or the end of a row. To leave tokens out, remove them from input_ids."
        )
    return mask


def _counted_anew(positions: np.ndarray, mask: np.ndarray, name: str, index: int) -> np.ndarray:
    """Convert positions in a padded row to positions among the remaining tokens."""
    if len(positions) and (positions.min() < 0 or positions.max() >= len(mask) or not mask[positions].all()):
        raise ValueError(
            f"{name} of row {index} of the batch names tokens that its attention mask leaves out, or that don't "
            "exist. Align the rows before they are padded (align=True in tokenize())."
        )
    return (mask.cumsum() - 1)[positions]
