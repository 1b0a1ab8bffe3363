"""Finds the files and datasets of a task's splits, in folders or named individually."""

import logging
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from datasets import Dataset

from ..readers import JSON, TABLES, format_of, is_packed, json_objects, load_splits

logger = logging.getLogger(__name__)

SPLITS = {
    "train": ("train",),
    "dev": ("dev", "valid", "validation", "validation_matched"),
    "test": ("test", "test_matched"),
    "transfer": ("transfer",),
}

# One word and its tag per line. Without labels, a `.txt` file has one text per line.
CONLL = (".conll", ".bio", ".iob2", ".txt")
ROWS = (*TABLES, *JSON, ".parquet")
FORMATS = (*ROWS, *CONLL)

_LANGUAGE = re.compile(r"([A-Za-z]{2,3}(?:[-_]\w+)*)=(.+)")


class Source(NamedTuple):
    """A file or a dataset with rows of one split.

    Attributes:
        language: language of all rows, or "".
        name: the user's name for it, for messages.
        data: the file or the dataset.
    """

    language: str
    name: str
    data: Path | Dataset

    def place(self, number: int) -> str:
        """A row's position for messages: its line in a text file or its number in a dataset, from 1.

        `number` is a line number of a table or CoNLL file, or a row number of JSON or a dataset.
        """
        ending = format_of(self.data) if isinstance(self.data, Path) else ".parquet"
        if ending == ".parquet":
            return f"{self.name}, row {number} (from 1)"
        if ending in JSON:
            number, _ = next(islice(json_objects(self.data), number - 1, None))
        return f"{self.name}:{number}"


def find_sources(folders: Sequence[str | Path], named: Mapping[str, Sequence[str | Path]]) -> dict[str, list[Source]]:
    """The sources of each split: those that are named for it, otherwise those in the folders.

    Args:
        folders: folders or datasets with several splits, optionally with a language (`da=folder`).
        named: split -> files, folders or datasets, optionally with a language. A folder that is named for `transfer`
            and has no such split provides its `train`.

    Raises:
        FileNotFoundError: a source doesn't exist.
        ValueError: a split doesn't exist, a folder has neither files of splits nor a dataset, or two files for one
            split.
    """
    # A dataset without splits holds training rows.
    in_folders = [_sources_in(folder, whole="train") for folder in folders]
    sources = {}
    for split, entries in named.items():
        if entries:
            sources[split] = [_named_source(entry, split) for entry in entries]
            continue
        sources[split] = [found[split] for found in in_folders if split in found]
        if sources[split] and len(sources[split]) < len(folders):
            logger.warning("%d of %d folders have no %s.", len(folders) - len(sources[split]), len(folders), split)
    return sources


def split_off_language(entry: str | Path) -> tuple[str, str]:
    """`"da=uner/da_ddt"` -> `("da", "uner/da_ddt")`. The equals sign may also be part of an existing path."""
    match = _LANGUAGE.fullmatch(str(entry))
    return (match[1], match[2]) if match and not Path(entry).exists() else ("", str(entry))


def _named_source(entry: str | Path, split: str) -> Source:
    language, name = split_off_language(entry)
    path = Path(name).expanduser()
    if path.is_file():
        return Source(language, name, path)
    found = _sources_in(entry, whole=split)
    source = found.get(split) or (found.get("train") if split == "transfer" else None)
    if source is None:
        raise ValueError(f"{name} has no split {split}, only {', '.join(found)}.")
    return source


def _sources_in(folder: str | Path, *, whole: str) -> dict[str, Source]:
    """The splits of a folder or dataset; a dataset without splits is the split `whole`."""
    language, name = split_off_language(folder)
    path = Path(name).expanduser()
    if path.is_file():
        raise ValueError(
            f"{name} is a file, but a folder with files of splits is expected. Pass files as train=, dev=, test=."
        )
    if path.is_dir():
        if files := _split_files(path):
            return {split: Source(language, str(file), file) for split, file in files.items()}
        # load_dataset would read text files with quotes and with a header row.
        if not any(any(path.rglob(f"*{ending}")) for ending in (".arrow", ".parquet")):
            raise ValueError(
                f"The folder {name} has neither files of splits, such as train.tsv (splits: "
                f"{', '.join(alias for aliases in SPLITS.values() for alias in aliases)}; formats: "
                f"{', '.join(FORMATS)}), nor a dataset."
            )
    loaded = load_splits(name)
    if isinstance(loaded, Dataset):
        return {whole: Source(language, f"{name} ({whole})", loaded)}
    found = {split: next((alias for alias in aliases if alias in loaded), None) for split, aliases in SPLITS.items()}
    return {split: Source(language, f"{name} ({split})", loaded[alias]) for split, alias in found.items() if alias}


def _split_files(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    there = [file for file in sorted(folder.iterdir()) if file.is_file() and format_of(file) in FORMATS]
    for split, aliases in SPLITS.items():
        found = [file for file in there if (file.with_suffix("") if is_packed(file) else file).stem in aliases]
        found.sort(key=lambda file: FORMATS.index(format_of(file)))
        if len(found) > 1:
            raise ValueError(
                f"{folder} has several files for the split {split}: {', '.join(file.name for file in found)}. Keep one "
                f"of them, or pass them as {split}=."
            )
        if found:
            files[split] = found[0]
    return files
