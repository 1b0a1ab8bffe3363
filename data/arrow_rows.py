"""Reads rows as slices of Arrow columns. Making Python lists of numbers would take longer than collating."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset


class ArrowRows:
    """The rows of a dataset, for a `DataLoader`. Lists of numbers are arrays.

    Lists of vectors of the same width are arrays `[number, width]`; other nested lists are lists of arrays. float16
    becomes float32, as in `datasets`. Lists with a null, and values that aren't numbers, are the same as in `datasets`.
    Arrays may be read-only.

    Args:
        dataset: the dataset. Only the columns of its format are read; the format's type is ignored.
    """

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        self._arrow = dataset.with_format("arrow", columns=dataset.format["columns"])

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """Several rows at once. A `DataLoader` calls this method."""
        table = self._arrow[indices]
        names, columns = table.column_names, [_rows_of(column.combine_chunks()) for column in table.columns]
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def arrow_parts(rows: Dataset, *columns: str, size: int = 10_000) -> Iterator[tuple[int, dict[str, pa.Array]]]:
    """Iterate over the rows in parts of `size`: the number of the first row, and the columns as Arrow arrays."""
    start = 0
    for part in rows.select_columns(list(columns)).with_format("arrow").iter(batch_size=size):
        yield start, {name: part[name].combine_chunks() for name in columns}
        start += len(part)


def _rows_of(column: pa.Array) -> Sequence[Any]:
    """The value of each row."""
    kind = column.type
    if column.null_count:
        return column.to_pylist()
    if pa.types.is_fixed_size_list(kind):
        values, size = _rows_of(column.flatten()), kind.list_size
        if isinstance(values, np.ndarray):
            return values.reshape(len(column), size, *values.shape[1:])
        return [values[start * size : (start + 1) * size] for start in range(len(column))]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        values, offsets = _rows_of(column.flatten()), column.offsets.to_numpy()
        return [values[start:end] for start, end in pairwise((offsets - offsets[0]).tolist())]
    if pa.types.is_float16(kind):
        return column.to_numpy().astype(np.float32)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return column.to_numpy(zero_copy_only=False)
    return column.to_pylist()
