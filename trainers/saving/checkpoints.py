"""Checkpoints that are whole, or not there: after a full disk, a kill or a power cut, and after damage to their files.

A checkpoint, which `transformers.Trainer` writes file by file, carries a marker until the last rank has written its
last file and all of it is on the disk. Its manifest, written last, names every file with its SHA-256; the files are
compared with it before a run goes on.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ...data import is_disk_full, remove_folder, sweep, sync, sync_directory, temporary_folder
from .manifest import DamagedFilesError, check_files, describe_files, read_sealed, write_sealed

INCOMPLETE_MARKER = ".incomplete"
MANIFEST_FILE = "checkpoint.json"

_MANIFEST_VERSION = 2

_SET_ASIDE_PREFIX = "_previous-"
_CHECKPOINT_NAME = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")


@contextmanager
def checkpoint_in_progress(
    folder: str | os.PathLike, *, is_writer: bool = True, wait_for_everyone: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Mark a checkpoint as incomplete while the block writes it, and remove it if the block raises.

    Every rank enters. The marker is there before any rank writes, and goes only after every rank has written: a rank
    that fails never reaches the second barrier, so whatever becomes of the others, the checkpoint stays incomplete.
    A checkpoint of that name from before is set aside, and put back should the block raise.

    When the block has ended, every file and folder is on the disk and the manifest names them. Leave uploads and the
    rotation of older checkpoints until then: a failed upload must not cost a good checkpoint, and the one before must
    not go while this one isn't complete.

    Args:
        folder: the checkpoint, `<output_dir>/checkpoint-<step>`.
        is_writer: whether this process makes and removes folders (`TrainingArguments.should_save`).
        wait_for_everyone: a barrier over all ranks (`Accelerator.wait_for_everyone`).

    Raises:
        OSError: the disk is full. The message names the checkpoint, the file, and the checkpoint before it.
    """
    folder = Path(folder)
    set_aside = folder.with_name(_SET_ASIDE_PREFIX + folder.name)
    if is_writer:
        # Born with its marker: there is no moment at which a folder of this name is new and looks complete.
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
    """The checkpoint of the highest step that was written to its end, or None.

    Like `transformers.trainer_utils.get_last_checkpoint`, but it passes over checkpoints that carry the marker or have
    neither a manifest nor a trainer state, and takes a folder that doesn't exist for an empty one. Whether its files
    are still what was written is for `check_checkpoint` to tell.
    """
    complete = _complete_checkpoints(output_dir)
    return str(complete[max(complete)]) if complete else None


def check_checkpoint(checkpoint: str | os.PathLike, needed: Collection[str] = ()) -> None:
    """Refuse a checkpoint that is not what was written, or lacks what a resumed run needs.

    Args:
        checkpoint: the folder.
        needed: names of files without which a resumed run would not be the run that was interrupted.

    Raises:
        DamagedFilesError: a file is missing, cut or changed. The message names the checkpoint, the file, and the
            checkpoint before it.
        ValueError: it was written by an older version, to be read alone (`save_only_model`), or on another number of
            processes.
    """
    checkpoint = Path(checkpoint)
    if not checkpoint.is_dir():
        raise ValueError(f"There is no checkpoint {checkpoint} to resume from.")
    if not (checkpoint / MANIFEST_FILE).exists():
        raise DamagedFilesError(
            f"{checkpoint} has no {MANIFEST_FILE}, which names its files with their checksums: it was written by "
            "transformers' own Trainer or by an early version of retort, or the file was removed. A run can't go on "
            f"from it; its weights can be loaded with from_pretrained. Otherwise {_way_back(checkpoint)}"
        )
    try:
        manifest = read_sealed(checkpoint / MANIFEST_FILE)
        if manifest["version"] != _MANIFEST_VERSION:
            raise ValueError(
                f"{checkpoint} was written by another version of retort (its format is {manifest['version']}, this one "
                f"reads {_MANIFEST_VERSION}). Resume with that version, or load its weights with from_pretrained and "
                "start anew."
            )
        check_files(checkpoint, manifest["files"])
    except DamagedFilesError as error:
        raise DamagedFilesError(
            f"The checkpoint {checkpoint} is damaged: {error}. Instead, {_way_back(checkpoint)}"
        ) from None
    if lacking := [name for name in needed if name not in manifest["files"]]:
        raise ValueError(
            f"{checkpoint} was written without {', '.join(lacking)}: a run that goes on from it would end with other "
            "weights. It was written with save_only_model=True, on another number of processes, or with DeepSpeed on "
            "one side only. Resume as it was written, or load its weights with from_pretrained and start anew."
        )


def rotate_checkpoints(output_dir: str | os.PathLike, limit: int | None, best: str | None) -> None:
    """Remove the oldest checkpoints, so that `limit` are left.

    Unlike `transformers.trainer_utils.rotate_checkpoints` it leaves no half of one behind, should it be killed, and
    goes by steps rather than by times, which removing files changes.

    Args:
        output_dir: where they lie.
        limit: how many to keep; None or 0 for all. At least the newest is kept, and the best.
        best: the best checkpoint, if there is one.
    """
    if not limit or limit < 0:
        return
    ordered = [path for path, _ in sorted(_checkpoints(output_dir), key=lambda found: found[1])]
    kept = {path.resolve() for path in [*ordered[-1:], *([Path(best)] if best else [])]}
    spare = [path for path in ordered if path.resolve() not in kept]
    for checkpoint in spare[: max(0, len(ordered) - max(limit, len(kept)))]:
        remove_folder(checkpoint)


def remove_checkpoints(output_dir: str | os.PathLike, keep: str | None = None) -> None:
    """Remove all checkpoints, but for one that is to be kept. Several processes may do so at once."""
    for checkpoint, _ in _checkpoints(output_dir):
        if keep is None or checkpoint.resolve() != Path(keep).resolve():
            remove_folder(checkpoint)


def was_stopped_early(checkpoint: str | os.PathLike) -> bool:
    """Whether a callback (early stopping) had ended the run before its last step when the checkpoint was written."""
    state = json.loads((Path(checkpoint) / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    control = state["stateful_callbacks"].get("TrainerControl", {}).get("args", {})
    return bool(control.get("should_training_stop")) and state["global_step"] < state["max_steps"]


def remove_incomplete_checkpoints(output_dir: str | os.PathLike) -> list[str]:
    """Remove what a killed run left half-written, and put back the checkpoints that it was about to replace.

    Call it on one process, before training writes. Only what bears this module's marks is removed: a folder that
    merely lacks its trainer state may be somebody's own.

    Returns:
        The checkpoints removed.
    """
    output_dir = Path(output_dir)
    # Beside the folder, too: there lies what was to become it.
    for folder in (output_dir, output_dir.absolute().parent):
        sweep(folder)
    removed = [path for path, _ in _checkpoints(output_dir) if (path / INCOMPLETE_MARKER).exists()]
    for checkpoint in removed:
        remove_folder(checkpoint)
    for set_aside in output_dir.glob(f"{_SET_ASIDE_PREFIX}{PREFIX_CHECKPOINT_DIR}-*"):
        _put_back(set_aside, output_dir / set_aside.name.removeprefix(_SET_ASIDE_PREFIX))
    return sorted(map(str, removed))


def _checkpoints(output_dir: str | os.PathLike) -> list[tuple[Path, int]]:
    """All of them, whole or not, each with its step."""
    named = [(path, _CHECKPOINT_NAME.fullmatch(path.name)) for path in Path(output_dir).glob("*") if path.is_dir()]
    return [(path, int(name[1])) for path, name in named if name]


def _complete_checkpoints(output_dir: str | os.PathLike) -> dict[int, Path]:
    """Those that were written to their end, by step."""
    return {
        step: path
        for path, step in _checkpoints(output_dir)
        if not (path / INCOMPLETE_MARKER).exists()
        and any((path / name).is_file() for name in (MANIFEST_FILE, TRAINER_STATE_NAME))
    }


def _complete(folder: Path) -> None:
    """Put all of a checkpoint on the disk, describe it, and take its marker away."""
    sync(folder)
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != INCOMPLETE_MARKER]
    write_sealed(folder / MANIFEST_FILE, {"version": _MANIFEST_VERSION, "files": describe_files(files, folder=folder)})
    sync_directory(folder.parent)
    (folder / INCOMPLETE_MARKER).unlink()
    sync_directory(folder)


def _disk_is_full(folder: Path, error: BaseException) -> OSError:
    """What to tell of a checkpoint that there was no room for."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != INCOMPLETE_MARKER]
    newest = max(files, key=lambda path: path.stat().st_mtime_ns, default=None)
    written = newest.relative_to(folder) if newest else "its first file"
    return OSError(
        errno.ENOSPC,
        f"The disk or the quota is full: {folder} could not be written and has been removed. Writing {written} failed "
        f"({error}). Make room, then {_way_back(folder)}",
    )


def _way_back(checkpoint: Path) -> str:
    """What to do without a checkpoint."""
    before = {
        step: path
        for step, path in _complete_checkpoints(checkpoint.parent).items()
        if (name := _CHECKPOINT_NAME.fullmatch(checkpoint.name)) and step < int(name[1])
    }
    if not before:
        return "start anew: there is no checkpoint before it."
    return (
        f"resume from the one before, {before[max(before)]}: remove {checkpoint.name} if it is there, or name that one."
    )


def _put_back(set_aside: Path, folder: Path) -> None:
    """Give a checkpoint that was set aside its name back, unless a complete one has taken it."""
    if set_aside.is_dir():
        if folder.exists():
            remove_folder(set_aside)
        else:
            os.rename(set_aside, folder)
