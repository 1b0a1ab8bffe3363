"""A teacher's vectors in a column of a dataset: checks, and adding them to texts or tokens."""

from collections.abc import Sequence
from functools import partial

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, LargeList, List, concatenate_datasets

from .arrow_rows import arrow_parts
from .fingerprints import fingerprint

# The column of the vectors that trainers read. Embeddings in a teacher cache have the same name.
VECTORS = "teacher_embedding"

_ROWS = 10_000  # rows per batch
_SHORTEST = 1e-12  # a shorter vector is not scaled to unit length: the eps of torch.nn.functional.normalize


def has_vectors(rows: object) -> bool:
    """Whether a dataset or a stream is known to have a teacher's vectors."""
    return isinstance(rows, datasets.Dataset | datasets.IterableDataset) and VECTORS in (rows.column_names or ())


def vector_columns(rows: Dataset) -> list[str]:
    """Names of the columns of lists of floats."""
    return [name for name, feature in rows.features.items() if _holds_vectors(feature)]


def check_vectors(rows: Dataset, column: str = VECTORS) -> int:
    """Check the vectors of all rows, in batches of a memory-mapped column.

    Args:
        rows: dataset with a list of floats (float16, float32 or float64) in each row of `column`.
        column: name of the column.

    Returns:
        Width of the vectors.

    Raises:
        ValueError: the column has other values; a vector is missing or of another width, or its length in float32 is
            not finite or below 1e-12 (with the number of the row, from 0); or all vectors are equal.
    """
    if not _holds_vectors(rows.features[column]):
        raise ValueError(
            f"the column {column!r} must hold a vector for each row, a list of floats, but holds "
            f"{rows.features[column]}. Convert quantised vectors to floats."
        )
    width, first, differ = 0, None, False
    for start, part in arrow_parts(rows, column, size=_ROWS):
        values = part[column]
        lengths = pc.list_value_length(values).fill_null(0).to_numpy(zero_copy_only=False)
        if first is None:
            width = int(lengths[0])
        _refuse(lengths == 0, start, "has no vector", column)
        _refuse(lengths != width, start, f"has a vector of another width than row 0, whose vector has {width}", column)
        matrix = pc.list_flatten(values).to_numpy(zero_copy_only=False).reshape(-1, width)
        with np.errstate(over="ignore"):
            matrix = matrix.astype(np.float32, copy=False)  # as in training
            squares = np.einsum("ij,ij->i", matrix, matrix)
        _refuse(~np.isfinite(matrix).all(1), start, "holds a number that is not finite in float32", column)
        _refuse(~np.isfinite(squares), start, "holds a vector whose length is not finite in float32", column)
        _refuse(
            squares < _SHORTEST**2, start, f"holds a vector shorter than {_SHORTEST}, which has no direction", column
        )
        first = matrix[0].copy() if first is None else first
        differ = differ or bool((matrix != first).any())
    if len(rows) > 1 and not differ:
        raise ValueError(
            f"the vectors of all {len(rows):,} rows are equal (column {column!r}), so nothing can be learnt from them. "
            "Check how they were computed."
        )
    return width


def vectors_of(rows: Dataset, column: str, indices: np.ndarray) -> Dataset:
    """The vectors of some rows, in the column `teacher_embedding`."""
    vectors = rows.select_columns(column).rename_columns({column: VECTORS})
    if np.array_equal(indices, np.arange(len(rows))):
        return vectors
    return vectors.select(indices, new_fingerprint=fingerprint(vectors, indices))


def combine_vectors(sides: Sequence[Dataset], how: str = "concatenate") -> Dataset:
    """Combine several teachers' vectors of each text into one vector.

    All vectors are scaled to unit length first, so that teachers with long vectors don't dominate. The result has unit
    length, too.

    Args:
        sides: for each teacher, a dataset with its vectors in the column `teacher_embedding`, as from `with_vectors`.
            All have the same texts in the same order.
        how: `"concatenate"`: the cosine of two texts is the mean of the teachers' cosines; widths may differ (Zhang et
            al. 2024, Jasper and Stella, arXiv:2412.19048). Or `"average"`, for teachers with a common embedding space,
            such as checkpoints of one run.

    Returns:
        The first dataset, with the combined vectors (float32) in the place of its own.

    Raises:
        ValueError: a dataset has no vectors or no rows, or vectors that `check_vectors` refuses; or the numbers of rows
            differ, or their texts, or the widths of vectors to be averaged; or an average is zero.
    """
    if how not in ("concatenate", "average"):
        raise ValueError(f"Vectors can be combined by 'concatenate' or 'average', but not by {how!r}.")
    if any(VECTORS not in side.column_names for side in sides):
        raise ValueError(
            f"Each dataset needs vectors in its column {VECTORS}. Join them: with_vectors(texts, vectors)."
        )
    counts = {len(side) for side in sides}
    if len(counts) != 1 or counts == {0}:
        raise ValueError(f"All teachers need vectors of the same texts, but they have {sorted(counts)} rows.")
    for side in sides[1:]:
        _check_aligned(sides[0], side)
    widths = [_checked_width(number, side) for number, side in enumerate(sides)]
    if how == "average" and len(set(widths)) > 1:
        raise ValueError(f"Vectors of {widths} numbers have no average. Choose combine: concatenate.")
    columns = [side.select_columns(VECTORS).rename_columns({VECTORS: str(at)}) for at, side in enumerate(sides)]
    rows = concatenate_datasets([written_out(column) for column in columns], axis=1)
    combined = rows.with_format("arrow").map(
        partial(_combined, how=how),
        with_indices=True,
        batched=True,
        batch_size=_ROWS,
        remove_columns=rows.column_names,
        new_fingerprint=fingerprint(*columns, how),
        desc="Combining vectors",
    )
    return beside(sides[0], combined)


def _check_aligned(one: Dataset, other: Dataset) -> None:
    """Refuse different texts in the same row, if both datasets have them in a column `text`."""
    if "text" not in one.column_names or "text" not in other.column_names:
        return
    pairs = zip(one.with_format(None)["text"], other.with_format(None)["text"], strict=True)
    for row, (text, its) in enumerate(pairs):
        if text != its:
            raise ValueError(
                f"Row {row} of two teachers' vectors is of different texts, {text[:60]!r} and {its[:60]!r}. Join both "
                "to the same texts first: with_vectors(texts, vectors)."
            )


def _checked_width(number: int, side: Dataset) -> int:
    try:
        return check_vectors(side)
    except ValueError as error:
        raise ValueError(f"Teacher {number} of those to combine (from 0): {error}") from None


def _combined(batch: pa.Table, rows: list[int], how: str) -> pa.Table:
    sides = []
    for column in batch.columns:
        flat = pc.list_flatten(column).to_numpy(zero_copy_only=False)
        sides.append(_of_unit_length(flat.reshape(len(batch), -1).astype(np.float64)))
    made = np.concatenate(sides, axis=1) if how == "concatenate" else np.mean(sides, axis=0)
    if (opposed := np.linalg.norm(made, axis=1) < _SHORTEST).any():
        raise ValueError(f"The average of the vectors of row {rows[opposed.argmax()]} is zero. Choose 'concatenate'.")
    made = _of_unit_length(made).astype(np.float32)
    return pa.table({VECTORS: pa.FixedSizeListArray.from_arrays(pa.array(made.reshape(-1)), made.shape[1])})


def _of_unit_length(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def beside(rows: Dataset, columns: Dataset) -> Dataset:
    """Add columns of numbers to a dataset, without copying them. They replace columns with the same names.

    Args:
        rows: `n` rows.
        columns: `n` rows.

    Returns:
        All columns, in numpy format. One layer's hidden states of 64 rows of 20 tokens take 0.2 s to read as Python
        lists, and a tenth of that as arrays.
    """
    stale = [name for name in columns.column_names if name in rows.column_names]
    rows = rows.remove_columns(stale).with_format(None)
    if rows._indices is not None:  # selected or shuffled rows: datasets would copy `columns`, too, or fail
        rows = rows.flatten_indices()
    return concatenate_datasets([rows, written_out(columns)], axis=1).with_format("numpy")


def written_out(rows: Dataset) -> Dataset:
    """Write selected or shuffled rows to a file of their own. Other rows are returned unchanged.

    `flatten_indices` of datasets would convert all vectors to Python numbers.
    """
    if rows._indices is None:
        return rows.with_format(None)
    name = fingerprint(rows, "written out")
    copied = rows.with_format("arrow").map(
        lambda batch: batch, batched=True, batch_size=_ROWS, new_fingerprint=name, desc="Vectors"
    )
    return copied.with_format(None)


def _holds_vectors(feature: object) -> bool:
    return isinstance(feature, List | LargeList) and getattr(feature.feature, "dtype", "").startswith("float")


def _refuse(wrong: np.ndarray, start: int, what: str, column: str) -> None:
    """Raise a ValueError that names the first wrong row and the number of wrong rows in its batch."""
    if wrong.any():
        row = start + int(wrong.argmax())
        raise ValueError(
            f"row {row} {what} (column {column!r}; {wrong.sum():,} of the {len(wrong):,} rows from {start:,} on). "
            "Embed these texts again, or remove their rows."
        )
