"""Writing files so that a full disk or a kill leaves the former ones, or the new ones, and nothing in between."""

import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows has no such locks: nothing is swept there
    fcntl = None

# `Trainer.push_to_hub` leaves out names that begin with an underscore, so no push picks up what a kill left behind.
TEMPORARY_PREFIX = "_incomplete-"

_TEMPORARY_NAME = re.compile(rf"{TEMPORARY_PREFIX}[0-9a-f]{{12}}")
# What Python reports when a disk, a quota or the largest size of a file is exhausted...
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# ... and what safetensors (Rust) and torch.save (C++) make of it, which keep no error number.
_FULL_MESSAGE = re.compile(
    rf"os error ({'|'.join(map(str, _FULL))})\b|No space left|PytorchStreamWriter|unexpected pos \d+ vs"
)


@contextmanager
def replace_files(folder: str | os.PathLike) -> Iterator[Path]:
    """Collect files in a temporary directory and move all of them into `folder` once the block has succeeded.

    Subdirectories are merged, files of the same name replaced, other files left alone. A new folder appears in one
    rename; files of an existing one are renamed one by one, after the last of them is safely on the disk. Temporary
    directories that a killed process has left in the same place are removed first.

    Args:
        folder: where the files shall lie; made if it doesn't exist.

    Yields:
        The temporary directory to write into.

    Raises:
        IsADirectoryError: a file would take the place of a directory. Nothing has been moved then.
        OSError: the disk is full. The message names the folder; nothing has been moved.
    """
    folder = Path(folder).resolve()
    # Inside an existing folder, not beside it: a folder may be a mount point, and files aren't renamed across those.
    parent = folder if folder.is_dir() else folder.parent
    sweep(parent)
    with temporary_folder(parent) as staging:
        try:
            yield staging
            files = sorted(path for path in staging.rglob("*") if path.is_file())
            # Without this a rename can outlive a power cut and the bytes behind it not.
            sync(staging)
            if not folder.exists():
                os.rename(staging, folder)
                sync_directory(folder.parent)
                return
            targets = [folder / path.relative_to(staging) for path in files]
            for target in targets:
                if target.is_dir():
                    raise IsADirectoryError(f"Can't write the file {target}: a directory of that name is in the way.")
                target.parent.mkdir(parents=True, exist_ok=True)
            for path, target in zip(files, targets, strict=True):
                os.replace(path, target)
            for directory in {target.parent for target in targets}:
                sync_directory(directory)
        except Exception as error:
            if not is_disk_full(error):
                raise
            # The free space is not told: under a quota it says nothing.
            raise OSError(
                errno.ENOSPC, f"The disk or the quota is full: {folder} could not be written and is as before ({error})"
            ) from error


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


def check_folder_name(name: str, what: str) -> None:
    """Refuse a name that a folder is called by and that would lead out of the folder above it.

    Args:
        name: given by the user, of a stage or an evaluation set.
        what: it names, for the message.

    Raises:
        ValueError: it is empty, `.` or `..`, or holds a separator of paths.
    """
    if name in ("", ".", "..") or re.search(r"[/\\\0]", name):
        raise ValueError(
            f"{what} is called {name!r}, but a folder is named after it. Give a name without '/' and '\\', other than "
            "'.' and '..'."
        )


# --- What isn't whole yet ---------------------------------------------------------------------------------------------


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A new folder inside `parent`, which is locked while the block runs and gone afterwards, unless it was renamed.

    The lock ends with the process, so that `sweep` can tell what a kill has left behind from what is being written.
    """
    # Not `tempfile`: its files are readable by their owner only, and would stay so after the rename.
    while True:
        folder = parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:12]}"
        folder.mkdir(parents=True)
        try:
            lock = _lock(folder)
        except BlockingIOError:  # a sweep has come between the last two lines
            continue
        if folder.exists():
            break
        _unlock(lock)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _unlock(lock)


def sweep(folder: str | os.PathLike) -> None:
    """Remove the temporary folders that killed processes have left in `folder`.

    Folders that a living process is writing are left alone; so are all on file systems without locks.
    """
    for path in Path(folder).glob(TEMPORARY_PREFIX + "*"):
        if not _TEMPORARY_NAME.fullmatch(path.name):
            continue
        try:
            lock = _lock(path)
        except BlockingIOError:
            continue
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            _unlock(lock)


def remove_folder(path: Path) -> None:
    """Remove a folder so that a kill in between leaves no half of it under its name.

    Several processes may do so at once.
    """
    doomed = path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:12]}")
    try:
        os.rename(path, doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed, ignore_errors=True)


def _lock(folder: Path) -> int | None:
    """A file descriptor that holds a folder's lock; None if the folder is gone, or its file system has no locks.

    Raises:
        BlockingIOError: another process has it.
    """
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # just removed
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:  # no locks here
        os.close(descriptor)
        return None
    return descriptor


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


# --- Safely on the disk -----------------------------------------------------------------------------------------------


def sync(folder: Path) -> None:
    """Wait until a folder, and all files and folders in it, are on the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            sync_directory(path)
    sync_directory(folder)


def sync_directory(folder: Path) -> None:
    """Wait until a folder's list of names is on the disk."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no directories
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says that no more could be written."""
    while error is not None:
        if getattr(error, "errno", None) in _FULL or _FULL_MESSAGE.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
