"""Atomic, checked checkpoints, which survive a full disk, a kill, a power cut or damaged files.

`transformers.Trainer` writes a checkpoint file by file. Until the last rank has written its last file and all files are
synced to the disk, the checkpoint contains a marker. The manifest, which is written last, lists every file with its
SHA-256. A run only resumes if the files match it.
"""

import errno
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import EarlyStoppingCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ...data import is_disk_full, remove_folder, sweep, sync, sync_directory, temporary_folder
from .manifest import DamagedFilesError, check_files, describe_files, read_sealed, write_sealed

INCOMPLETE_MARKER = ".incomplete"
MANIFEST_FILE = "checkpoint.json"

_MANIFEST_VERSION = 3

_SET_ASIDE_PREFIX = "_previous-"
_CHECKPOINT_NAME = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")


@contextmanager
def checkpoint_in_progress(
    folder: str | os.PathLike, *, is_writer: bool = True, wait_for_everyone: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Mark a checkpoint as incomplete while the block writes it, and remove it if the block raises.

    All ranks must enter. The marker is written before any rank writes, and removed after all ranks have written. A rank
    that fails never reaches the second barrier, so the checkpoint stays incomplete. An existing checkpoint of this name
    is renamed first, and restored if the block raises.

    After the block, all files are synced to the disk and listed in the manifest. Upload and remove older checkpoints
    only then: a failed upload must not remove a good checkpoint, and the previous one must stay until this one is
    complete.

    Args:
        folder: the checkpoint, `<output_dir>/checkpoint-<step>`.
        is_writer: whether this process makes and removes folders (`TrainingArguments.should_save`).
        wait_for_everyone: a barrier over all ranks (`Accelerator.wait_for_everyone`).

    Raises:
        OSError: the disk is full. The message names the checkpoint, the file, and the previous checkpoint.
    """
    folder = Path(folder)
    set_aside = folder.with_name(_SET_ASIDE_PREFIX + folder.name)
    if is_writer:
        # The new folder is renamed together with its marker, so it never looks complete.
        with temporary_folder(folder.parent) as marked:
            (marked / INCOMPLETE_MARKER).touch()
            if folder.exists():
                shutil.rmtree(set_aside, ignore_errors=True)
                os.rename(folder, set_aside)
            os.rename(marked, folder)
    wait_for_everyone()
    try:
        yield
        wait_for_everyone()
        if is_writer:
            _complete(folder)
    except BaseException as error:
        full = is_disk_full(error) and _disk_is_full(folder, error)
        if is_writer:
            remove_folder(folder)
            _put_back(set_aside, folder)
        if full:
            raise full from error
        raise
    if is_writer and set_aside.exists():
        remove_folder(set_aside)


def last_complete_checkpoint(output_dir: str | os.PathLike) -> str | None:
    """The complete checkpoint of the highest step, or None.

    Like `transformers.trainer_utils.get_last_checkpoint`, but it skips checkpoints with the marker, and those with
    neither a manifest nor a trainer state. A folder that doesn't exist counts as empty. The files are not compared with
    the manifest; see `check_checkpoint`.
    """
    complete = _complete_checkpoints(output_dir)
    return str(complete[max(complete)]) if complete else None


def check_checkpoint(checkpoint: str | os.PathLike, needed: Collection[str] = ()) -> None:
    """Refuse a damaged checkpoint, or one that lacks files that a resumed run needs.

    Args:
        checkpoint: the folder.
        needed: names of the files that are needed to resume exactly.

    Raises:
        DamagedFilesError: a file is missing, truncated or changed. The message names the checkpoint, the file, and the
            previous checkpoint.
        ValueError: it is a run's folder; or the checkpoint was written by another version, with `save_only_model`, or
            with another number of processes.
    """
    _check_is_checkpoint(checkpoint)
    checkpoint = Path(checkpoint)
    if not checkpoint.is_dir():
        raise ValueError(f"There is no checkpoint {checkpoint} to resume from.")
    if not (checkpoint / MANIFEST_FILE).exists():
        raise DamagedFilesError(
            f"{checkpoint} has no {MANIFEST_FILE} with the checksums of its files: it was written by transformers' own "
            "Trainer or by an early version of retort, or the file was removed. A run can't resume from it, but its "
            f"weights can be loaded with from_pretrained. Otherwise {_way_back(checkpoint)}"
        )
    try:
        manifest = read_sealed(checkpoint / MANIFEST_FILE)
        if manifest["version"] != _MANIFEST_VERSION:
            raise ValueError(
                f"{checkpoint} was written by another version of retort (its format is {manifest['version']}, this "
                f"version reads {_MANIFEST_VERSION}). Resume with that version, or load its weights with "
                "from_pretrained and start a new run."
            )
        check_files(checkpoint, manifest["files"])
    except DamagedFilesError as error:
        raise DamagedFilesError(
            f"The checkpoint {checkpoint} is damaged: {error}. Instead, {_way_back(checkpoint)}"
        ) from None
    if lacking := [name for name in needed if name not in manifest["files"]]:
        raise ValueError(
            f"{checkpoint} was written without {', '.join(lacking)}, so a resumed run would end with other weights. It "
            "was written with save_only_model=True, on another number of processes, or only one of the two runs uses "
            "DeepSpeed or FSDP. Resume as it was written, or load its weights with from_pretrained and start a new run."
        )


def _check_is_checkpoint(given: str | os.PathLike) -> None:
    """Refuse a run's folder in place of one of its checkpoints, and True as text."""
    if str(given).lower() == "true" and not Path(given).exists():
        raise ValueError(
            f"resume_from_checkpoint={given!r} is text. In Python, pass True without quotes for the last checkpoint in "
            "output_dir; elsewhere, pass its path."
        )
    last = None if Path(given, MANIFEST_FILE).exists() else last_complete_checkpoint(given)
    if last is not None:
        raise ValueError(f"{given} is the output_dir of a run, not a checkpoint. Pass its last checkpoint, {last}.")


def rotate_checkpoints(
    output_dir: str | os.PathLike, limit: int | None, best: str | None, *, step: int | None = None
) -> None:
    """Remove the oldest checkpoints, so that `limit` are left.

    Unlike `transformers.trainer_utils.rotate_checkpoints` it leaves no incomplete checkpoint if it is killed. It sorts
    by steps rather than by modification times, which change when files are removed.

    Args:
        output_dir: folder of the checkpoints.
        limit: number of checkpoints to keep; None or 0 for all. The newest and the best are always kept.
        best: the best checkpoint, if there is one.
        step: step of the newest checkpoint. Those of later steps are of an earlier run, and are removed first.
    """
    if not limit or limit < 0:
        return
    found = sorted((step is None or of <= step, of, path) for path, of in _checkpoints(output_dir))
    ordered = [path for *_, path in found]
    kept = {path.resolve() for path in [*ordered[-1:], *([Path(best)] if best else [])]}
    spare = [path for path in ordered if path.resolve() not in kept]
    for checkpoint in spare[: max(0, len(ordered) - max(limit, len(kept)))]:
        remove_folder(checkpoint)


def remove_checkpoints(output_dir: str | os.PathLike, keep: str | None = None) -> None:
    """Remove all checkpoints except `keep`. Several processes may do so at once."""
    for checkpoint, _ in _checkpoints(output_dir):
        if keep is None or checkpoint.resolve() != Path(keep).resolve():
            remove_folder(checkpoint)


def was_stopped_early(checkpoint: str | os.PathLike, callbacks: Iterable[EarlyStoppingCallback]) -> bool:
    """Whether early stopping by one of the callbacks had ended the run when the checkpoint was written.

    Other callbacks may stop a run that is to continue, such as one with a time limit.
    """
    state = json.loads((Path(checkpoint) / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    saved = [state["stateful_callbacks"].get(type(callback).__name__, []) for callback in callbacks]
    return any(_ran_out(each) for found in saved for each in (found if isinstance(found, list) else [found]))


def _ran_out(state: dict[str, dict]) -> bool:
    """Whether a callback's patience had run out; False if a subclass saves another state than transformers does."""
    waited = state.get("attributes", {}).get("early_stopping_patience_counter", 0)
    return waited >= state.get("args", {}).get("early_stopping_patience", math.inf)


def remove_incomplete_checkpoints(output_dir: str | os.PathLike) -> None:
    """Remove incomplete checkpoints of a killed run, and restore those that it was about to replace.

    Call it on one process, before training writes. Only folders with this module's marker are removed. A folder without
    a trainer state may be the user's own.
    """
    output_dir = Path(output_dir)
    # Also sweep the parent folder, where the temporary folder of `output_dir` itself may be.
    for folder in (output_dir, output_dir.absolute().parent):
        sweep(folder)
    for checkpoint, _ in _checkpoints(output_dir):
        if (checkpoint / INCOMPLETE_MARKER).exists():
            remove_folder(checkpoint)
    for set_aside in output_dir.glob(f"{_SET_ASIDE_PREFIX}{PREFIX_CHECKPOINT_DIR}-*"):
        _put_back(set_aside, output_dir / set_aside.name.removeprefix(_SET_ASIDE_PREFIX))


def _checkpoints(output_dir: str | os.PathLike) -> list[tuple[Path, int]]:
    """All checkpoints, complete or not, with their steps."""
    named = [(path, _CHECKPOINT_NAME.fullmatch(path.name)) for path in Path(output_dir).glob("*") if path.is_dir()]
    return [(path, int(name[1])) for path, name in named if name]


def _complete_checkpoints(output_dir: str | os.PathLike) -> dict[int, Path]:
    """Step -> complete checkpoint."""
    return {
        step: path
        for path, step in _checkpoints(output_dir)
        if not (path / INCOMPLETE_MARKER).exists()
        and any((path / name).is_file() for name in (MANIFEST_FILE, TRAINER_STATE_NAME))
    }


def _complete(folder: Path) -> None:
    """Sync a checkpoint to the disk, write its manifest, and remove its marker."""
    sync(folder)
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != INCOMPLETE_MARKER]
    write_sealed(folder / MANIFEST_FILE, {"version": _MANIFEST_VERSION, "files": describe_files(files, folder=folder)})
    sync_directory(folder.parent)
    (folder / INCOMPLETE_MARKER).unlink()
    sync_directory(folder)


def _disk_is_full(folder: Path, error: BaseException) -> OSError:
    """The error for a checkpoint that did not fit on the disk."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != INCOMPLETE_MARKER]
    newest = max(files, key=lambda path: path.stat().st_mtime_ns, default=None)
    written = newest.relative_to(folder) if newest else "its first file"
    return OSError(
        errno.ENOSPC,
        f"The disk or the quota is full: {folder} could not be written and has been removed. Writing {written} failed "
        f"({error}). Free some space, then {_way_back(folder)}",
    )


def _way_back(checkpoint: Path) -> str:
    """What to do without this checkpoint, as the end of a message."""
    before = {
        step: path
        for step, path in _complete_checkpoints(checkpoint.parent).items()
        if (name := _CHECKPOINT_NAME.fullmatch(checkpoint.name)) and step < int(name[1])
    }
    if not before:
        return "start a new run: there is no earlier checkpoint."
    return (
        f"resume from the checkpoint before it, {before[max(before)]}: pass its path, or remove {checkpoint.name} if "
        "it exists."
    )


def _put_back(set_aside: Path, folder: Path) -> None:
    """Restore the name of a checkpoint that was set aside, unless there is a new one of this name."""
    if set_aside.is_dir():
        if folder.exists():
            remove_folder(set_aside)
        else:
            os.rename(set_aside, folder)
