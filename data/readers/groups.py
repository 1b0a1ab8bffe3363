"""Groups of texts that belong together: an anchor, its positive and hard negatives; a query and its documents."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value, concatenate_datasets

from .columns import PAIRS, TEXTS, find_columns
from .datasets import convert, read_dataset
from .lines import format_of
from .tables import TABLES, cells_of, find_layout, role_rows

logger = logging.getLogger(__name__)

ROLES = ("anchor", "positive", "negative")
# Names of SimCSE's and sentence-transformers' data, and what else such columns are called.
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


def read_groups(sources: Sequence[str | Path], *, columns: Sequence[str] | Sequence[int] | None = None) -> Dataset:
    """Read groups, or texts that are each a group of their own.

    Columns go by their names: `anchor`, `positive`, `negative`, in any order, or names that such columns usually have
    (`query` and `answer`, `sentence1` and `sentence2`, `premise` and `hypothesis`, `sent0`, `sent1` and `hard_neg`).
    TSV and CSV files may have no header row: their columns then are anchor, positive and hard negative, in this order.
    A first row is a header if it holds a pair of these names, which the log tells.

    Or a row is a `query`, the list of its `documents`, the first of which is its positive, and perhaps the list of
    their `scores`; such rows lie in JSON lines, Parquet or a dataset.

    Args:
        sources: TSV (no quoting), CSV, JSON lines, Parquet or whatever `read_dataset` takes; or `.txt` files, one text
            per line. All of one kind.
        columns: those that hold the anchor, the positive and the hard negative, as many as there are, or the query, the
            documents and the scores: by name; or by number, from 0, in TSV and CSV files without a header row. Default:
            as above.

    Returns:
        Columns `anchor`, and as there are `positive` and `negative`; or `query`, `documents` and, if there are any,
        `scores`. Rows with an empty text are left out and counted.

    Raises:
        ValueError: other columns, such as a label, which doesn't tell what belongs together; files of different kinds;
            and what `read_dataset` raises.
    """
    parts = [_read(source, columns) for source in sources]
    kinds = {tuple(part.column_names) for part in parts}
    if len(kinds) > 1:
        found = "; ".join(f"{s}: {', '.join(p.column_names)}" for s, p in zip(sources, parts, strict=True))
        raise ValueError(f"All files must hold the same columns, but there are {found}.")
    rows = concatenate_datasets(parts)
    kept = rows.filter(lambda row: all(text and text.strip() for text in _texts(row)), desc="Reading groups")
    if left_out := len(rows) - len(kept):
        logger.warning("%d of %d rows hold an empty text and were left out.", left_out, len(rows))
    if not len(kept):
        raise ValueError(f"No row of {', '.join(map(str, sources))} holds text in every column.")
    return kept


def _texts(row: dict[str, Any]) -> list[str | None]:
    """The texts of a row; [None] where it lacks its documents."""
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
    if len(found) > 1 and isinstance(dataset.features[found[1]], List):
        return _ranked(dataset.select_columns(list(found)), source)
    for name in found:
        if getattr(dataset.features[name], "dtype", None) not in ("string", "large_string"):
            raise ValueError(f"{source}: the column {name!r} holds {dataset.features[name]}, no text.")
    roles = ROLES[: len(found)]
    texts = dataset.select_columns(list(found)).rename_columns(dict(zip(found, roles, strict=True)))
    return texts if all(f == Value("string") for f in texts.features.values()) else texts.cast(_text_features(roles))


def _ranked(dataset: Dataset, source: str | Path) -> Dataset:
    """Queries with lists of documents, and perhaps of scores."""
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


def _text_features(roles: Sequence[str]) -> Features:
    return Features(dict.fromkeys(roles, Value("string")))


def _read_table(path: Path, columns: Sequence[str] | Sequence[int] | None) -> Dataset:
    layout = find_layout(path, [_PAIRS], columns)
    _, first = next(row for row in cells_of(path) if row[1])
    if columns is not None or layout is None:
        count = len(first if columns is None else columns)
    else:
        found = _roles(first, str(path))
        count, layout = len(found), (tuple(map(first.index, found)), True)
    if count not in (2, 3):
        raise ValueError(
            f"{path} has {count} columns, but a group is an anchor and its positive, or these and a hard negative."
        )
    return convert(path, role_rows, roles=list(ROLES[:count]), layout=layout).select_columns(list(ROLES[:count]))


def _roles(names: Sequence[str], source: str) -> tuple[str, ...] | None:
    """The columns of an anchor, its positive and its hard negative, as many as there are, and no other."""
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
            f"{source}: besides {', '.join(found)} there are the columns {', '.join(others)}. Texts of a group belong "
            f"together, whatever other columns say of them: keep the rows of which that is true, and pass "
            f"columns={list(found)}."
        )
    return found
