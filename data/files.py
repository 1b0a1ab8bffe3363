"""Atomic file writes: a full disk or a killed process leaves either the old files or the new ones."""

import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows has no such locks, so nothing is swept there
    fcntl = None

# `Trainer.push_to_hub` skips names that begin with an underscore, so leftovers of killed processes are never pushed.
TEMPORARY_PREFIX = "_incomplete-"

_TEMPORARY_NAME = re.compile(rf"{TEMPORARY_PREFIX}[0-9a-f]{{12}}")
# Error numbers for a full disk, an exhausted quota or a file that is too large...
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# ... and the messages of safetensors (Rust) and torch.save (C++), which keep no error number.
_FULL_MESSAGE = re.compile(
    rf"os error ({'|'.join(map(str, _FULL))})\b|No space left|PytorchStreamWriter|unexpected pos \d+ vs"
)


@contextmanager
def replace_files(folder: str | os.PathLike, *, outdated: Sequence[str] = ()) -> Iterator[Path]:
    """Write files to a temporary directory and move all of them into `folder` if the block succeeds.

    Subdirectories are merged, files of the same name are replaced, and other files are kept. A new folder is created by
    a single rename. In an existing folder, files are renamed one by one after all of them were synced to disk.
    Temporary directories that killed processes left there are removed first.

    Args:
        folder: the target folder; created if it doesn't exist.
        outdated: names of files that are removed from `folder` if the block doesn't write them.

    Yields:
        The temporary directory to write into.

    Raises:
        IsADirectoryError: a file would replace a directory. No file has been moved.
        OSError: the disk is full. The message names the folder. No file has been moved.
    """
    folder = Path(folder).resolve()
    # Inside an existing folder, not beside it: it may be a mount point, and files can't be renamed across file systems.
    parent = folder if folder.is_dir() else folder.parent
    sweep(parent)
    with temporary_folder(parent) as staging:
        try:
            yield staging
            files = sorted(path for path in staging.rglob("*") if path.is_file())
            # Without this, a rename may survive a power failure although the file's contents don't.
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
            for name in outdated:
                if folder / name not in targets:
                    (folder / name).unlink(missing_ok=True)
            for directory in {target.parent for target in targets}:
                sync_directory(directory)
        except Exception as error:
            if not is_disk_full(error):
                raise
            # The message doesn't give the free space, which means nothing under a quota.
            raise OSError(
                errno.ENOSPC, f"The disk or the quota is full: {folder} can't be written and was not changed ({error})"
            ) from error


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a UTF-8 text file atomically. Its directory is created if needed."""
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_files(path.parent) as staging:
        (staging / path.name).write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, data: Any) -> None:
    """Write `data` as indented JSON atomically.

    Raises:
        ValueError: `data` contains an infinite number or NaN, which JSON doesn't have.
    """
    try:
        text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{path}: {error}. Replace it by None before writing.") from error
    write_text(path, text + "\n")


def check_folder_name(name: str, what: str) -> None:
    """Refuse a folder name that would lead out of the parent folder.

    Args:
        name: the user's name for a stage or an evaluation set.
        what: the named thing, for the message.

    Raises:
        ValueError: the name is empty, `.` or `..`, or contains a path separator.
    """
    if name in ("", ".", "..") or re.search(r"[/\\\0]", name):
        raise ValueError(
            f"{what} is called {name!r}, but a folder is named after it. Choose a name without '/' and '\\', other "
            "than '.' and '..'."
        )


# --- Temporary folders ------------------------------------------------------------------------------------------------


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A new folder inside `parent` that is locked during the block and removed afterwards, unless it was renamed.

    The lock ends with the process, so `sweep` can distinguish leftovers of killed processes from folders in use.
    """
    # Not `tempfile`, whose files are readable by their owner only, also after the rename.
    while True:
        folder = parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:12]}"
        folder.mkdir(parents=True)
        try:
            lock = _lock(folder)
        except BlockingIOError:  # a sweep of another process locked the new folder first
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

    Folders that a running process is writing are kept. On file systems without locks, all folders are kept.
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
    """Remove a folder. If the process is killed meanwhile, no incomplete folder is left under this name.

    Several processes may remove the same folder at once.
    """
    doomed = path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:12]}")
    try:
        os.rename(path, doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed, ignore_errors=True)


def _lock(folder: Path) -> int | None:
    """Lock a folder and return the file descriptor; None if the folder is gone or its file system has no locks.

    Raises:
        BlockingIOError: another process holds the lock.
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


# --- Syncing to disk --------------------------------------------------------------------------------------------------


def sync(folder: Path) -> None:
    """Wait until a folder and all files and folders in it are written to disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            sync_directory(path)
    sync_directory(folder)


def sync_directory(folder: Path) -> None:
    """Wait until the entries of a folder are written to disk."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no directories
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error or one of its causes reports a full disk."""
    while error is not None:
        if getattr(error, "errno", None) in _FULL or _FULL_MESSAGE.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
