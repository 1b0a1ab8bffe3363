"""Files and datasets -> `datasets.Dataset`, kept in Arrow on disk and read from there."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, Value, concatenate_datasets, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from pyarrow import ArrowInvalid

from ..fingerprints import fingerprint, sha256_of, text_digest
from .text_files import first_row, json_rows, table_rows, text_rows

logger = logging.getLogger(__name__)

_TABLES = (".tsv", ".csv")

_FORMATS = (".txt", *_TABLES, ".jsonl", ".parquet", ".arrow")


def read_dataset(source: str | Path, *, split: str | None = None, columns: Sequence[str] | None = None) -> Dataset:
    """Read a file, a folder or a dataset of the Hub.

    Text files are UTF-8, with or without gzip (`.gz`). They are converted once; a file that has changed since is
    converted anew. Values of TSV and CSV files are text; `dataset.cast_column("score", Value("float64"))` makes
    numbers of them.

    Args:
        source: one of

            - `.txt`: one text per line, in a column `text`;
            - `.tsv` (no quoting) or `.csv` (standard quoting), with a header row unless `columns` is given;
            - `.jsonl`: one object per line; `.parquet`; `.arrow`;
            - a folder that `save_to_disk` wrote, or one of data files that `datasets.load_dataset` understands;
            - the name of a dataset for `datasets.load_dataset`, if nothing of that name lies on disk; of one that has
              several configurations, with the one wanted (`nyu-mll/glue:mrpc`). With
              `HF_HUB_OFFLINE=1` only what was downloaded before.
        split: of a dataset that has several. Default: its only one, or `train`.
        columns: names of the columns of a TSV or CSV file without a header row.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: a file that is empty, binary, not UTF-8 or not of its format, with the line; an unknown format; a
            split or `columns` where there are none.
    """
    path = Path(source).expanduser()
    if columns is not None and format_of(path) not in _TABLES:
        raise ValueError(f"columns= names the columns of a TSV or CSV file without a header row, but got {source}.")
    if path.is_file():
        if split is not None:
            raise ValueError(f"{source} is a file and has no split {split!r}. Pass split=None.")
        with named_errors(path):
            return _read_file(path, columns)
    return _choose_split(load_splits(source), split, source)


def read_texts(sources: Sequence[str], *, exclude: Iterable[str] | Dataset = ()) -> Dataset:
    """Gather texts from files and datasets, each text once.

    Args:
        sources: as `read_dataset` takes them (of several splits, `train` is read), each followed by the columns that
            hold text where it has more than a column `text`: `pairs.tsv:source,target` by name, `pairs.tsv:0,1` by
            number, from 0, for a TSV or CSV file without a header row.
        exclude: texts to leave out (or a dataset with a column `text`), such as a test set's. Compared without regard
            to case and spacing; repeated texts are found by their exact wording.

    Returns:
        A column `text`, in the order of sources, columns and rows. What was left out is counted and logged.

    Raises:
        ValueError: a column that isn't there or holds no text; nothing left. And what `read_dataset` raises.
    """
    columns = [column for source in sources for column in text_columns(source)]
    return distinct(columns, exclude=exclude, named=", ".join(sources))


def distinct(columns: Sequence[Dataset], *, named: str, exclude: Iterable[str] | Dataset = ()) -> Dataset:
    """Join texts, each once; what was left out is counted and logged.

    Args:
        columns: datasets with a column `text`, and no other.
        named: what an error calls them.
        exclude: see `read_texts`.

    Raises:
        ValueError: nothing is left.
    """
    texts = concatenate_datasets(columns)
    excluded = {folded(text) for text in (exclude["text"] if isinstance(exclude, Dataset) else exclude)}
    kept, left_out = sift(
        ((text or "",) for rows in texts.with_format(None).iter(batch_size=10_000) for text in rows["text"]),
        {"empty": lambda text: not text.strip(), "excluded": lambda text: excluded and folded(text) in excluded},
    )
    if left_out:
        logger.warning("Of %d texts read, left out: %s.", len(texts), left_out)
    if not len(kept):
        raise ValueError(f"No text is left of {named}; left out: {left_out}.")
    return select(texts, kept)


def sift(rows: Iterable[tuple[str, ...]], faults: Mapping[str, Callable[..., Any]]) -> tuple[np.ndarray, str]:
    """Find the rows that are worth keeping, each once.

    Args:
        rows: their texts; read once, so that there may be more than memory holds.
        faults: what a row may suffer from, and how one tells from its texts.

    Returns:
        The indices of the rows to keep, in order; and how many were left out for which reason, in words.
    """
    # Arrays of numbers, not lists and sets of objects: 16 bytes for a row, however many millions there are.
    candidates, digests = array("q"), array("Q")
    counts = dict.fromkeys((*faults, "repeated"), 0)
    for index, texts in enumerate(rows):
        fault = next((name for name, has in faults.items() if has(*texts)), None)
        if fault:
            counts[fault] += 1
        else:
            candidates.append(index)
            digests.append(text_digest("\t".join(texts)))
    _, firsts = np.unique(np.asarray(digests), return_index=True)
    counts["repeated"] = len(candidates) - len(firsts)
    left_out = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
    return np.asarray(candidates)[np.sort(firsts)], left_out


def select(rows: Dataset, indices: np.ndarray) -> Dataset:
    """Some rows, under a name that tells which; by default datasets pickles all indices to name the result."""
    return rows.select(indices, new_fingerprint=fingerprint(rows, indices))


def text_columns(source: str) -> list[Dataset]:
    """The columns of one source that hold text, each as a dataset with the column `text`.

    Args:
        source: see `read_texts`.

    Raises:
        ValueError: see `read_texts`.
    """
    name, wanted = _split_off_columns(source)
    names = None
    if all(column.isdecimal() for column in wanted):
        path = Path(name).expanduser()
        if not path.is_file() or format_of(path) not in _TABLES:
            raise ValueError(f"{source}: columns go by number only in TSV and CSV files without a header row.")
        names = [str(number) for number in range(len(first_row(path)))]
    dataset = read_dataset(name, columns=names)
    for column in wanted:
        if column not in dataset.column_names:
            raise ValueError(
                f"{name} has no column {column!r}, only {', '.join(dataset.column_names)}. Name the columns that hold "
                f"text behind a colon: {name}:{dataset.column_names[0]}"
            )
        if getattr(dataset.features[column], "dtype", None) not in ("string", "large_string"):
            raise ValueError(f"{name}: the column {column!r} holds {dataset.features[column]}, no text.")
    columns = [dataset.select_columns(column).rename_columns({column: "text"}) for column in wanted]
    return [c if c.features["text"].dtype == "string" else c.cast_column("text", Value("string")) for c in columns]


def load_splits(source: str | Path) -> Dataset | DatasetDict:
    """Load a folder, or a dataset by its name, with all its splits.

    Raises:
        FileNotFoundError: nothing there.
    """
    path = Path(source).expanduser()
    if path.exists():
        return _load_folder(path)
    if _looks_like_path(str(source)):
        raise FileNotFoundError(f"There is no file or folder {source} (in {Path.cwd()}).")
    return _load_by_name(str(source))


def convert(path: Path, rows: Callable, **arguments) -> Dataset:
    """Stream the rows of a text file into Arrow, or take what an earlier call made of the same bytes.

    Args:
        path: the file.
        rows: function of this package that yields the file's rows, given its path and the arguments.
        arguments: what JSON can hold.
    """
    # By default the cache goes by the arguments, and a file that has changed would give the rows it had before.
    name = fingerprint(sha256_of(path), rows.__name__, format_of(path), path.suffix, arguments)
    return Dataset.from_generator(partial(rows, path, **arguments), fingerprint=name)


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Take off the wrapping that datasets puts around what went wrong, and see that the file is named."""
    try:
        yield
    except (DatasetGenerationError, ArrowInvalid) as error:
        cause = error.__cause__ or error
        if str(path) in str(cause):
            raise cause from None
        raise ValueError(f"{path} can't be read as {format_of(path)}: {cause}") from error


def format_of(path: Path) -> str:
    """The ending of a file's name, `.gz` aside."""
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix


def _looks_like_path(source: str) -> bool:
    known = format_of(Path(source)) in _FORMATS
    return known or source.startswith((".", "/", "~")) or source.count("/") > 1 or "\\" in source


def _read_file(path: Path, columns: Sequence[str] | None) -> Dataset:
    kind = format_of(path)
    if kind == ".txt":
        return convert(path, text_rows)
    if kind in _TABLES:
        return convert(path, table_rows, columns=None if columns is None else list(columns))
    if kind == ".jsonl":
        return convert(path, json_rows)
    if kind == ".parquet":
        return Dataset.from_parquet(str(path))
    if kind == ".arrow":
        return Dataset.from_file(str(path))
    raise ValueError(
        f"{path} has none of the formats that can be read: {', '.join(_FORMATS)}, of which text files may also be "
        "compressed (.gz)."
    )


def _load_folder(folder: Path) -> Dataset | DatasetDict:
    is_saved = (folder / "state.json").exists() or (folder / "dataset_dict.json").exists()
    return load_from_disk(str(folder)) if is_saved else load_dataset(str(folder))


def _load_by_name(name: str) -> Dataset | DatasetDict:
    try:
        return load_dataset(*name.split(":", maxsplit=1))
    except (DatasetNotFoundError, ConnectionError) as error:
        raise FileNotFoundError(
            f"{name} is no file or folder (in {Path.cwd()}), and no dataset of that name can be loaded: {error}"
        ) from error


def _choose_split(found: Dataset | DatasetDict, split: str | None, source: str | Path) -> Dataset:
    if isinstance(found, Dataset):
        if split is not None:
            raise ValueError(f"{source} is one dataset and has no split {split!r}. Pass split=None.")
        return found
    wanted = split or ("train" if len(found) > 1 else next(iter(found)))
    if wanted not in found:
        raise ValueError(f"{source} has no split {wanted!r}, only {', '.join(found)}.")
    return found[wanted]


def _split_off_columns(source: str) -> tuple[str, list[str]]:
    """`"pairs.tsv:en,de"` -> `("pairs.tsv", ["en", "de"])`; a colon in the name of a file that exists is its own."""
    name, colon, columns = source.rpartition(":")
    if not colon or Path(source).expanduser().exists():
        return source, ["text"]
    return name, columns.split(",")


def folded(text: str) -> str:
    """A text without regard to case and spacing."""
    return " ".join(text.split()).casefold()
