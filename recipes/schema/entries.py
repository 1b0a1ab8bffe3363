"""Names of files and datasets in a recipe, with the labels and columns that may be written beside them."""

from collections.abc import Iterator
from pathlib import Path


def files_of(entry: str) -> Iterator[str]:
    """The files of an entry: `da=a.tsv` and `a.tsv:text` have one file, `a.tsv+b.tsv` has two.

    The name of an existing file may have these characters, too.
    """
    for part in [entry] if is_there(entry) else entry.split("+"):
        unlabelled = part.partition("=")[2] or part
        names = [shorter or name for name in (part, unlabelled) for shorter in (name, name.rpartition(":")[0])]
        yield next((name for name in names if is_there(name)), names[-1])


def is_there(file: str) -> bool:
    """Whether a file or folder exists."""
    return Path(file).expanduser().exists()
