"""Writing files so that a full disk or a kill leaves the former ones, or the new ones, and nothing in between."""

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# `Trainer.push_to_hub` leaves out names that begin with an underscore, so no push picks up what a kill left behind.
TEMPORARY_PREFIX = "_incomplete-"


@contextmanager
def replace_files(folder: str | os.PathLike) -> Iterator[Path]:
    """Collect files in a temporary directory and move all of them into `folder` once the block has succeeded.

    Subdirectories are merged, files of the same name replaced, other files left alone. A new folder appears in one
    rename; files of an existing one are renamed one by one, after the last of them is safely on the disk.

    Args:
        folder: where the files shall lie; made if it doesn't exist.

    Yields:
        The temporary directory to write into.

    Raises:
        IsADirectoryError: a file would take the place of a directory. Nothing has been moved then.
    """
    folder = Path(folder).resolve()
    # Inside an existing folder, not beside it: a folder may be a mount point, and files aren't renamed across those.
    staging = temporary_name(folder if folder.is_dir() else folder.parent)
    staging.mkdir(parents=True)
    try:
        yield staging
        files = sorted(path for path in staging.rglob("*") if path.is_file())
        for path in files:
            # Without this a rename can outlive a power cut and the bytes behind it not.
            with path.open("rb") as file:
                os.fsync(file.fileno())
        if not folder.exists():
            os.rename(staging, folder)
            return
        targets = [folder / path.relative_to(staging) for path in files]
        for target in targets:
            if target.is_dir():
                raise IsADirectoryError(f"Can't write the file {target}: a directory of that name is in the way.")
            target.parent.mkdir(parents=True, exist_ok=True)
        for path, target in zip(files, targets, strict=True):
            os.replace(path, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a UTF-8 text file whole or not at all; its directory is made if need be."""
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_files(path.parent) as staging:
        (staging / path.name).write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, data: Any) -> None:
    """Write `data` as indented JSON, whole or not at all.

    Raises:
        ValueError: a number is infinite or not a number; JSON has no such numbers.
    """
    try:
        text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{path}: {error}. Replace it by None before it is written.") from error
    write_text(path, text + "\n")


def temporary_name(parent: Path) -> Path:
    """A new name in a folder for what isn't whole yet."""
    # Not `tempfile`: its files are readable by their owner only, and would stay so after the rename.
    return parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:12]}"
