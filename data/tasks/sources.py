"""Where the rows of a task come from: files and datasets for each split, found in folders or named one by one."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

from datasets import Dataset

from ..readers import load_splits, text_rows
from .files import FORMATS
from .part import Source

SPLITS = {
    "train": ("train",),
    "dev": ("dev", "valid", "validation", "validation_matched"),
    "test": ("test", "test_matched"),
    "transfer": ("transfer",),
}

LABELS_FILE = "labels.tsv"

_LANGUAGE = re.compile(r"([A-Za-z]{2,3}(?:[-_]\w+)*)=(.+)")


def split_off_language(entry: str | Path) -> tuple[str, str]:
    """`"da=uner/da_ddt"` -> `("da", "uner/da_ddt")`; an equals sign in the name of what exists is its own."""
    match = _LANGUAGE.fullmatch(str(entry))
    return (match[1], match[2]) if match and not Path(entry).exists() else ("", str(entry))


def find_source(entry: str | Path, split: str) -> Source:
    """The source that was named for a split: a file, or that split of a folder or dataset.

    Args:
        entry: path or name, perhaps with a language before it.
        split: one of `SPLITS`. For `transfer`, `train` serves where there is none.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: no such split.
    """
    language, name = split_off_language(entry)
    path = Path(name).expanduser()
    if path.is_file():
        return Source(language, name, path)
    found = _splits_of(name)
    data = found.get("", found.get(split, found.get("train") if split == "transfer" else None))
    if data is None:
        raise ValueError(f"{name} has no split {split}, only {', '.join(found)}.")
    return Source(language, name if isinstance(data, Dataset) else str(data), data)


def find_sources(folder: str | Path) -> dict[str, Source]:
    """What a folder or dataset holds, by splits.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: neither files of splits nor a dataset, or two files for one split.
    """
    language, name = split_off_language(folder)
    found = _splits_of(name)
    if "" in found:
        found = {"train": found[""]}
    return {
        split: Source(language, f"{name} ({split})" if isinstance(data, Dataset) else str(data), data)
        for split, data in found.items()
    }


def labels_file(folder: str | Path) -> Path | None:
    """The list of labels in a folder, if it has one."""
    file = Path(split_off_language(folder)[1]).expanduser() / LABELS_FILE
    return file if file.is_file() else None


def read_labels(file: str | Path) -> tuple[str, ...]:
    """Names of labels, one per line, in the order of their ids.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a label twice, an empty line among them, several columns.
    """
    labels: list[str] = []
    for number, row in enumerate(text_rows(Path(file).expanduser()), 1):
        label = row["text"].strip(" ")
        if not label or "\t" in label:
            raise ValueError(f"{file}:{number}: expected one label per line, but this line is {row['text']!r}.")
        if label in labels:
            raise ValueError(
                f"{file}:{number}: the label {label!r} stands in line {labels.index(label) + 1} already. Every label "
                "is listed once."
            )
        labels.append(label)
    return tuple(labels)


def _splits_of(name: str) -> dict[str, Path | Dataset]:
    """Split -> file or dataset; a dataset without splits stands under ""."""
    folder = Path(name).expanduser()
    if folder.is_file():
        raise ValueError(
            f"{name} is a file, expected a folder with files of splits. Name files by train=, dev=, test=."
        )
    if folder.is_dir():
        if files := _split_files(folder):
            return files
        # What load_dataset would find in a folder of text files it would read with quotes, and with a header row.
        if not any(any(folder.rglob(f"*{ending}")) for ending in (".arrow", ".parquet")):
            raise ValueError(
                f"The folder {name} holds neither files of splits, such as train.tsv (splits: "
                f"{', '.join(alias for aliases in SPLITS.values() for alias in aliases)}; formats: "
                f"{', '.join(FORMATS)}), nor a dataset."
            )
    loaded = load_splits(name)
    if isinstance(loaded, Dataset):
        return {"": loaded}
    found = {split: [alias for alias in aliases if alias in loaded] for split, aliases in SPLITS.items()}
    return {split: loaded[aliases[0]] for split, aliases in found.items() if aliases}


def _split_files(folder: Path) -> dict[str, Path | Dataset]:
    files: dict[str, Path | Dataset] = {}
    for split, aliases in SPLITS.items():
        names = (f"{alias}{ending}{packed}" for alias, ending, packed in product(aliases, FORMATS, ("", ".gz")))
        found = [folder / name for name in names if (folder / name).is_file()]
        if len(found) > 1:
            raise ValueError(
                f"{folder} holds several files for the split {split}: {', '.join(file.name for file in found)}. Leave "
                f"one, or name them by {split}=."
            )
        if found:
            files[split] = found[0]
    return files
