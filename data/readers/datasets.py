"""Reads files and datasets as `datasets.Dataset`, stored as Arrow files on disk."""

import json
import logging
import re
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict, Features, Value, concatenate_datasets, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from pyarrow import ArrowInvalid

from ..fingerprints import fingerprint, sha256_of, text_digest
from .json_files import JSON, features_of, json_kinds, json_rows
from .lines import format_of
from .tables import TABLES, cells_of, table_rows
from .text_files import text_rows

logger = logging.getLogger(__name__)

# A dataset's name, optionally with a split or a slice of a split.
_DATASET = re.compile(r"(.+?)(?:\[(.+)\])?")

_FORMATS = (".txt", *TABLES, *JSON, ".parquet", ".arrow")


def read_dataset(source: str | Path, *, split: str | None = None, columns: Sequence[str] | None = None) -> Dataset:
    """Read a file, a folder or a dataset on the Hub.

    Text files are UTF-8, optionally compressed by gzip (`.gz`). They are converted to Arrow once, and again if they
    change. Values of TSV and CSV files are strings; convert them to numbers by
    `dataset.cast_column("score", Value("float64"))`.

    Args:
        source: one of

            - `.txt`: one text per line, in a column `text`;
            - `.tsv` (quotes are ordinary characters, unless the whole file was certainly written with quoting, as by
              pandas) or `.csv` (standard quoting), with a header row unless `columns` is given;
            - `.jsonl`: one object per line; `.json`: one object per line, or a list of objects. Missing keys are None.
              Types are determined from the whole file; a column with integers and floats becomes float;
            - `.parquet`; `.arrow`;
            - a folder that `save_to_disk` wrote, or one of data files that `datasets.load_dataset` understands;
            - the name of a dataset for `datasets.load_dataset`, if there is no file or folder of that name. A
              configuration may follow a colon (`nyu-mll/glue:mrpc`), and a split or a slice of a split may follow in
              brackets (`nyu-mll/glue:mrpc[validation]`, `id[train[:1000]]`). With `HF_HUB_OFFLINE=1`, only datasets
              that were downloaded before are found.
        split: the split of a dataset with several splits. Default: the only split, or `train`.
        columns: names of the columns of a TSV or CSV file without a header row.

    Raises:
        FileNotFoundError: the source doesn't exist.
        ValueError: a file is empty, binary, not UTF-8 or malformed (with the line); its format is unknown; there is no
            such split; or `columns` is given for another format.
    """
    path = Path(source).expanduser()
    if columns is not None and format_of(path) not in TABLES:
        raise ValueError(f"columns= is for TSV and CSV files without a header row, but the source is {source}.")
    if path.is_file():
        if split is not None:
            raise ValueError(f"{source} is a file and has no split {split!r}. Pass split=None.")
        return _read_file(path, columns)
    found = load_splits(source)
    if isinstance(found, Dataset):
        if split is not None:
            raise ValueError(f"{source} is one dataset and has no split {split!r}. Pass split=None.")
        return found
    wanted = split or ("train" if len(found) > 1 else next(iter(found)))
    if wanted not in found:
        raise ValueError(f"{source} has no split {wanted!r}, only {', '.join(found)}.")
    return found[wanted]


def read_texts(sources: str | Path | Sequence[str | Path], *, exclude: Iterable[str] | Dataset = ()) -> Dataset:
    """Read distinct texts from files and datasets.

    Args:
        sources: one or several sources of `read_dataset` (`train` is read if there are several splits). If the text is
            not in a column `text`, the source is followed by its columns: `pairs.tsv:source,target` by name, or
            `pairs.tsv:0,1` by number, from 0, for a TSV or CSV file without a header row.
        exclude: texts to leave out, such as those of a test set, or a dataset with a column `text`. They are compared
            ignoring case and spacing. Repeated texts are only left out if they are exactly equal.

    Returns:
        A column `text`, in the order of sources, columns and rows. The numbers of texts that were left out are logged.

    Raises:
        ValueError: a column doesn't exist or holds no text, or no text is left; and all errors of `read_dataset`.
    """
    sources = listed(sources)
    columns = [column for source in sources for column in text_columns(source)]
    return distinct(columns, exclude=exclude, named=", ".join(sources))


def listed(sources: str | Path | Sequence[str | Path]) -> list[str]:
    """The names of one or several sources.

    Raises:
        ValueError: there is none.
    """
    names = [str(source) for source in ([sources] if isinstance(sources, str | Path) else sources)]
    if not names:
        raise ValueError("Expected a file or dataset, or several, but got an empty list.")
    return names


def distinct(columns: Sequence[Dataset], *, named: str, exclude: Iterable[str] | Dataset = ()) -> Dataset:
    """Concatenate texts and remove repetitions. The numbers of texts that were left out are logged.

    Args:
        columns: datasets with a column `text` and no other column.
        named: the source of the texts, for error messages.
        exclude: see `read_texts`.

    Raises:
        ValueError: no text is left.
    """
    texts = concatenate_datasets(columns)
    excluded = {folded(text) for text in (exclude["text"] if isinstance(exclude, Dataset) else exclude)}
    kept, left_out = sift(texts, excluded)
    if left_out:
        logger.warning("Of %d texts read, left out: %s.", len(texts), left_out)
    if not len(kept):
        raise ValueError(f"No text is left of {named}; left out: {left_out}.")
    return kept


def sift(rows: Dataset, excluded: Collection[str], *, max_characters: int | None = None) -> tuple[Dataset, str]:
    """Remove empty, long, excluded and repeated rows.

    Args:
        rows: columns of texts.
        excluded: `folded` texts; rows with one of them in any column are left out.
        max_characters: rows with a longer text are left out.

    Returns:
        The kept rows, and a description of how many rows were left out for which reason.
    """
    too_long = f"longer than {max_characters} characters"

    def fault(texts: tuple[str, ...]) -> str | None:
        if not all(text.strip() for text in texts):
            return "empty"
        if max_characters is not None and max(map(len, texts)) > max_characters:
            return too_long
        return "excluded" if excluded and any(folded(text) in excluded for text in texts) else None

    # Arrays of numbers instead of lists and sets of objects take only 16 bytes for each of millions of rows.
    candidates, digests = array("q"), array("Q")
    counts = dict.fromkeys(("empty", too_long, "excluded", "repeated"), 0)
    batches = rows.with_format(None).iter(batch_size=10_000)
    for index, values in enumerate(chain.from_iterable(zip(*batch.values(), strict=True) for batch in batches)):
        texts = tuple(text or "" for text in values)
        if found := fault(texts):
            counts[found] += 1
        else:
            candidates.append(index)
            digests.append(text_digest("\t".join(texts)))
    _, firsts = np.unique(np.asarray(digests), return_index=True)
    counts["repeated"] = len(candidates) - len(firsts)
    left_out = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
    return select(rows, np.asarray(candidates)[np.sort(firsts)]), left_out


def select(rows: Dataset, indices: np.ndarray) -> Dataset:
    """Select rows with our own fingerprint; by default datasets pickles all indices to compute one."""
    return rows.select(indices, new_fingerprint=fingerprint(rows, indices))


def text_columns(source: str) -> list[Dataset]:
    """The text columns of one source of `read_texts`, each as a dataset with the column `text`."""
    name, colon, named = source.rpartition(":")
    wanted = named.split(",")
    if not colon or "]" in named or Path(source).expanduser().exists():
        # If a file has this whole name, the colon is part of the name.
        name, wanted = source, ["text"]
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"{source} names a column twice.")
    names = None
    if all(column.isdecimal() for column in wanted):
        path = Path(name).expanduser()
        if not path.is_file() or format_of(path) not in TABLES:
            raise ValueError(f"{source}: columns can be numbered only in TSV and CSV files without a header row.")
        names = [str(number) for number in range(len(next(cells_of(path), (0, []))[1]))]
    dataset = read_dataset(name, columns=names)
    for column in wanted:
        if column not in dataset.column_names:
            raise ValueError(
                f"{name} has no column {column!r}, only {', '.join(dataset.column_names)}. Name the text columns after "
                f"a colon: {name}:{dataset.column_names[0]}"
            )
    return [renamed_texts(dataset, {column: "text"}, name) for column in wanted]


def renamed_texts(dataset: Dataset, names: dict[str, str], source: str | Path) -> Dataset:
    """Some columns of text under other names.

    Args:
        dataset: the dataset from `source`.
        names: name of each column -> its new name.
        source: the source's name, for the message.

    Raises:
        ValueError: a column holds no text.
    """
    for column in names:
        if getattr(dataset.features[column], "dtype", None) not in ("string", "large_string"):
            raise ValueError(f"{source}: the column {column!r} holds {dataset.features[column]}, not text.")
    texts = dataset.select_columns(list(names)).rename_columns(names)
    features = Features(dict.fromkeys(names.values(), Value("string")))
    # A cast copies all rows, even if it changes nothing.
    return texts if texts.features == features else texts.cast(features)


def require_texts(rows: Dataset, columns: Sequence[str], source: str) -> None:
    """Refuse a missing text in some columns of the rows from `source`."""
    for column in columns:
        row = next((number for number, text in enumerate(rows[column][:], 1) if text is None), None)
        if row is not None:
            raise ValueError(f"{source}, row {row} (from 1): no text in {column}.")


def load_splits(source: str | Path) -> Dataset | DatasetDict:
    """Load a folder, or a dataset by its name, with all its splits.

    Raises:
        FileNotFoundError: the source doesn't exist.
        ValueError: the dataset has no such split.
    """
    path = Path(source).expanduser()
    if path.exists():
        is_saved = (path / "state.json").exists() or (path / "dataset_dict.json").exists()
        return load_from_disk(str(path)) if is_saved else load_dataset(str(path))
    name = str(source)
    if format_of(path) in _FORMATS or name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name:
        raise FileNotFoundError(f"There is no file or folder {name} (in {Path.cwd()}).")
    if "/" not in name:  # for a folder that is gone, datasets would return the rows of any folder of that name
        raise FileNotFoundError(
            f"There is no file or folder {name} (in {Path.cwd()}). A dataset on the Hub is named with its owner, as in "
            "stanfordnlp/imdb."
        )
    try:
        plain, split = _DATASET.fullmatch(name).groups()
        return load_dataset(*plain.split(":", maxsplit=1), split=split)
    except (DatasetNotFoundError, ConnectionError) as error:
        raise FileNotFoundError(
            f"There is no file or folder {name} (in {Path.cwd()}), and no dataset of that name can be loaded: {error}"
        ) from error


def convert(path: Path, rows: Callable, features: Features | None = None, **arguments) -> Dataset:
    """Convert a text file to Arrow row by row, or load the result of an earlier call for the same contents.

    Args:
        path: the file.
        rows: function of this package that yields the file's rows, given its path and the arguments.
        features: types of the columns, if the first thousand rows may not determine them.
        arguments: JSON values.
    """
    # By default the cache depends only on the arguments, so a changed file would give its old rows.
    name = fingerprint(sha256_of(path), rows.__name__, format_of(path), path.suffix, arguments)
    with _named_errors(path):
        return Dataset.from_generator(partial(rows, path, **arguments), features=features, fingerprint=name)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Unwrap the errors of datasets, and add the file's name if it is missing."""
    try:
        yield
    except (DatasetGenerationError, ArrowInvalid) as error:
        cause = error.__cause__ or error
        if str(path) in str(cause):
            raise cause from None
        raise ValueError(f"{path} can't be read as {format_of(path)}: {cause}") from error


def _read_file(path: Path, columns: Sequence[str] | None) -> Dataset:
    kind = format_of(path)
    if kind == ".txt":
        return convert(path, text_rows)
    if kind in TABLES:
        return convert(path, table_rows, columns=None if columns is None else list(columns))
    if kind in JSON:
        kinds = json.loads(convert(path, json_kinds)["kinds"][0])
        return convert(path, json_rows, features=features_of(kinds), keys=list(kinds))
    if kind in (".parquet", ".arrow"):
        with _named_errors(path):
            return Dataset.from_parquet(str(path)) if kind == ".parquet" else Dataset.from_file(str(path))
    raise ValueError(
        f"The format of {path} can't be read. Readable formats are {', '.join(_FORMATS)}; text files may also be "
        "compressed (.gz)."
    )


def folded(text: str) -> str:
    """A text with normalised case and spacing, for comparisons."""
    return " ".join(text.split()).casefold()
