"""Groups of texts that belong together: an anchor, its positive, and hard negatives."""

import logging
from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset, concatenate_datasets

from .datasets import format_of, read_dataset
from .text_files import first_row

logger = logging.getLogger(__name__)

ROLES = ("anchor", "positive", "negative")
# First rows that are a header: SimCSE's, sentence-transformers', and what else such columns are called.
_NAMES = {*ROLES, "sent0", "sent1", "hard_neg", "query", "text", "text1", "text2", "sentence1", "sentence2"}


def read_groups(sources: Sequence[str | Path]) -> Dataset:
    """Read groups from TSV and CSV files, or texts that are each a group of their own.

    Args:
        sources: TSV (no quoting) or CSV files of two columns (anchor, positive) or three (and a hard negative), with a
            header row or without: it is one if it holds names that such columns usually have. Or `.txt` files, one
            text per line. All of one kind.

    Returns:
        Columns `anchor`, and as there are `positive` and `negative`. Rows with an empty text are left out and counted.

    Raises:
        ValueError: other numbers of columns, or files of different kinds; and what `read_dataset` raises.
    """
    parts = [_read(Path(source)) for source in sources]
    kinds = {tuple(part.column_names) for part in parts}
    if len(kinds) > 1:
        found = "; ".join(f"{s}: {', '.join(p.column_names)}" for s, p in zip(sources, parts, strict=True))
        raise ValueError(f"All files must hold the same columns, but there are {found}.")
    rows = concatenate_datasets(parts)
    kept = rows.filter(lambda row: all(text and text.strip() for text in row.values()), desc="Reading groups")
    if left_out := len(rows) - len(kept):
        logger.warning("%d of %d rows hold an empty text and were left out.", left_out, len(rows))
    if not len(kept):
        raise ValueError(f"No row of {', '.join(map(str, sources))} holds text in every column.")
    return kept


def _read(path: Path) -> Dataset:
    if format_of(path) not in (".tsv", ".csv"):
        return read_dataset(path).select_columns("text").rename_column("text", ROLES[0])
    first = first_row(path)
    if len(first) not in (2, 3):
        raise ValueError(
            f"{path} has {len(first)} columns, but a group is an anchor and its positive, or these and a hard negative."
        )
    columns = list(ROLES[: len(first)])
    if not {name.strip().lower() for name in first} <= _NAMES:
        return read_dataset(path, columns=columns)
    return read_dataset(path).rename_columns(dict(zip(first, columns, strict=True)))
