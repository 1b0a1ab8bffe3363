"""Reads groups of texts: an anchor with its positive and hard negative, or a query with its documents."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, LargeList, List, Value, concatenate_datasets

from .columns import PAIRS, TEXTS, find_columns
from .datasets import convert, folded, listed, read_dataset, renamed_texts
from .lines import format_of
from .tables import TABLES, cells_of, find_layout, role_rows

logger = logging.getLogger(__name__)

ROLES = ("anchor", "positive", "negative")
# Names of columns in the data of SimCSE and sentence-transformers, and other usual names.
_PAIRS = (
    ROLES[:2],
    ("sent0", "sent1"),
    *((question, answer) for question in ("query", "question") for answer in ("positive", "answer", "passage")),
    *PAIRS,
)
_QUERIES = (("query",), ("question",), ("anchor",))
_DOCUMENTS, _SCORES = (("documents",),), (("scores",),)
_RANKED = Features({"query": Value("string"), "documents": List(Value("string")), "scores": List(Value("float32"))})
_NEGATIVES = (("negative",), ("hard_neg",), ("hard_negative",))
_SINGLES = (("anchor",), *TEXTS)


def read_groups(
    sources: str | Path | Sequence[str | Path],
    *,
    columns: Sequence[str] | Sequence[int] | None = None,
    exclude: Iterable[str] = (),
) -> Dataset:
    """Read groups of texts. A single text is a group, too.

    Columns are found by name: `anchor`, `positive`, `negative`, in any order, or other usual names (`query` and
    `answer`, `sentence1` and `sentence2`, `premise` and `hypothesis`, `sent0`, `sent1` and `hard_neg`). TSV and CSV
    files may have no header row; their columns are then anchor, positive and hard negative, in this order. A first row
    with a pair of these names is a header, which is logged.

    In JSON lines, Parquet and datasets, a row may instead have a `query`, a list of its `documents` (the positive
    first) and optionally a list of their `scores`.

    Args:
        sources: TSV, CSV, JSON lines, Parquet or any other source of `read_dataset`; or `.txt` files, one
            text per line. One or several; all must have the same columns.
        columns: the columns of the anchor, the positive and the hard negative (if there are any), or of the query, the
            documents and the scores: names, or in TSV and CSV files without a header row numbers, from 0. Default: as
            above.
        exclude: texts such as those of a test set; groups that contain one are left out. Case and spacing are ignored.

    Returns:
        Columns `anchor` and, if there are any, `positive` and `negative`; or `query`, `documents` and, if there are
        any, `scores`. The numbers of rows with an empty or excluded text, which are left out, are logged.

    Raises:
        ValueError: there are other columns, such as a label, so it is unclear which texts belong together; sources have
            different columns; and all errors of `read_dataset`.
    """
    if columns is not None:
        _check_named(columns)
    sources = listed(sources)
    parts = [_read(source, columns) for source in sources]
    kinds = {tuple(part.column_names) for part in parts}
    if len(kinds) > 1:
        found = "; ".join(f"{s}: {', '.join(p.column_names)}" for s, p in zip(sources, parts, strict=True))
        raise ValueError(f"All files must hold the same columns, but there are {found}.")
    rows = concatenate_datasets(parts)
    filled = rows.filter(lambda row: all(text and text.strip() for text in _texts(row)), desc="Reading groups")
    if left_out := len(rows) - len(filled):
        logger.warning("%d of %d rows hold an empty text and were left out.", left_out, len(rows))
    if not len(filled):
        raise ValueError(f"No row of {', '.join(map(str, sources))} holds text in every column.")
    excluded = {folded(text) for text in exclude}
    if not excluded:
        return filled
    kept = filled.filter(lambda row: excluded.isdisjoint(map(folded, _texts(row))), desc="Excluded texts")
    if left_out := len(filled) - len(kept):
        logger.warning("%d of %d groups contain an excluded text and were left out.", left_out, len(filled))
    if not len(kept):
        raise ValueError(f"Every group of {', '.join(map(str, sources))} contains an excluded text.")
    return kept


def _check_named(columns: Sequence[str] | Sequence[int]) -> None:
    is_list = isinstance(columns, list | tuple) and {type(column) for column in columns} in ({str}, {int})
    if not is_list or len(columns) > len(ROLES) or len(set(columns)) < len(columns):
        raise ValueError(
            f"columns={columns!r}, but a group has 1 to {len(ROLES)} different columns ({', '.join(ROLES)}). Pass a "
            "list of their names, or of their numbers, each once, and leave out the others."
        )


def _texts(row: dict[str, Any]) -> list[str | None]:
    """The texts of a row, with a None for missing documents."""
    if "documents" in row:
        return [row["query"], *(row["documents"] or [None])]
    return list(row.values())


def _read(source: str | Path, columns: Sequence[str] | Sequence[int] | None) -> Dataset:
    path = Path(source).expanduser()
    if path.is_file() and format_of(path) in TABLES:
        return _read_table(path, columns)
    dataset = read_dataset(source)
    found = tuple(columns) if columns is not None else _roles(dataset.column_names, str(source))
    if not found or not set(found) <= set(dataset.column_names):
        expected = ", ".join(map(str, columns or ("anchor", "positive")))
        raise ValueError(
            f"{source}: expected the columns {expected}, but there are {', '.join(dataset.column_names)}. Rename them, "
            "or name them by columns=."
        )
    if len(found) > 1 and isinstance(dataset.features[found[1]], List | LargeList):
        return _ranked(dataset.select_columns(list(found)), source)
    return renamed_texts(dataset, dict(zip(found, ROLES, strict=False)), source)


def _ranked(dataset: Dataset, source: str | Path) -> Dataset:
    """Queries with lists of documents, and optionally lists of scores."""
    query, *lists = dataset.features.values()
    documents, *scores = (getattr(getattr(kind, "feature", None), "dtype", "") for kind in lists)
    is_text = {query.dtype, documents} <= {"string", "large_string"}
    if not is_text or not all(kind.startswith(("float", "int")) for kind in scores):
        raise ValueError(
            f"{source}: a query must be a text, its documents a list of texts and its scores a list of numbers, but "
            f"there are {dataset.features}."
        )
    features = Features(dict(list(_RANKED.items())[: len(dataset.column_names)]))
    return dataset.rename_columns(dict(zip(dataset.column_names, features, strict=True))).cast(features)


def _read_table(path: Path, columns: Sequence[str] | Sequence[int] | None) -> Dataset:
    layout = find_layout(path, [_PAIRS], columns)
    _, first = next(row for row in cells_of(path) if row[1])
    if columns is not None or layout is None:
        count = len(first if columns is None else columns)
    else:
        found = _roles(first, str(path))
        count, layout = len(found), (tuple(map(first.index, found)), True)
    if count not in (2, 3) and columns is None:
        raise ValueError(
            f"{path} has {count} columns, but a group is an anchor, its positive and optionally a hard negative. For "
            "groups of a single text, name its column by columns=."
        )
    return convert(path, role_rows, roles=list(ROLES[:count]), layout=layout).select_columns(list(ROLES[:count]))


def _roles(names: Sequence[str], source: str) -> tuple[str, ...] | None:
    """Names of the columns of a group; None if they are not found. Refuses further columns."""
    choices = (
        [_QUERIES, _DOCUMENTS, _SCORES],
        [_QUERIES, _DOCUMENTS],
        [_PAIRS, _NEGATIVES],
        [_PAIRS],
        [_SINGLES],
    )
    found = next(filter(None, (find_columns(names, choice) for choice in choices)), None)
    if found and (others := [name for name in names if name not in found]):
        raise ValueError(
            f"{source}: besides {', '.join(found)} there are the columns {', '.join(others)}. All texts of a group "
            f"must belong together, whatever other columns contain: keep only such rows, and pass "
            f"columns={list(found)}."
        )
    return found
