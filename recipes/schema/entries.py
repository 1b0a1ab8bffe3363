"""Names of files and datasets in a recipe, with the labels and columns that may be written beside them."""

import os
from collections.abc import Iterator
from pathlib import Path


def files_of(entry: str) -> Iterator[str]:
    """The files of an entry: `da=a.tsv` and `a.tsv:text` have one file, `a.tsv+b.tsv` has two.

    An entry that is the name of an existing file is one, whatever its characters.
    """
    for part in [entry] if is_there(entry) else entry.split("+"):
        names = [shorter or name for name in (part, unlabelled(part)) for shorter in (name, name.rpartition(":")[0])]
        yield next((name for name in names if is_there(name)), names[-1])


def unlabelled(entry: str) -> str:
    """An entry without its label: `a.tsv` of `da=a.tsv`. The name of an existing file has none, nor has a path whose
    first `=` is in a subfolder (`train/lang=en/a.tsv`)."""
    label, _, name = entry.partition("=")
    return name if name and not is_there(entry) and not {"/", os.sep} & {*label} else entry


def is_there(file: str) -> bool:
    """Whether a file or folder exists."""
    return Path(file).expanduser().exists()
