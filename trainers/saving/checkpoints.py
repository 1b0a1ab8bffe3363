"""Writing to disk so that a full disk or a kill leaves the former files, or the new ones, and nothing in between.

Files are written under a temporary name on the same file system and renamed when they are whole. Checkpoints, which
`transformers.Trainer` writes file by file, carry a marker until the last rank has written its last file.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ...data import TEMPORARY_PREFIX, temporary_name

INCOMPLETE_MARKER = ".incomplete"

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

    Leave uploads and the rotation of older checkpoints until after the block: a failed upload must not cost a good
    checkpoint, and the one before must not go while this one isn't complete.

    Args:
        folder: the checkpoint, `<output_dir>/checkpoint-<step>`.
        is_writer: whether this process makes and removes folders (`TrainingArguments.should_save`).
        wait_for_everyone: a barrier over all ranks (`Accelerator.wait_for_everyone`).
    """
    folder = Path(folder)
    set_aside = folder.with_name(_SET_ASIDE_PREFIX + folder.name)
    if is_writer:
        # Born with its marker: there is no moment at which a folder of this name is new and looks complete.
        marked = temporary_name(folder.parent)
        marked.mkdir(parents=True)
        (marked / INCOMPLETE_MARKER).touch()
        if folder.exists():
            shutil.rmtree(set_aside, ignore_errors=True)
            os.rename(folder, set_aside)
        os.rename(marked, folder)
    wait_for_everyone()
    try:
        yield
        wait_for_everyone()
    except BaseException:
        if is_writer:
            _remove(folder)
            _put_back(set_aside, folder)
        raise
    if is_writer:
        (folder / INCOMPLETE_MARKER).unlink()
        shutil.rmtree(set_aside, ignore_errors=True)


def last_complete_checkpoint(output_dir: str | os.PathLike) -> str | None:
    """The checkpoint of the highest step that was written to its end, or None.

    Like `transformers.trainer_utils.get_last_checkpoint`, but it passes over checkpoints that carry the marker or have
    no trainer state, and takes a folder that doesn't exist for an empty one.
    """
    complete = {
        step: path
        for path, step in _checkpoints(output_dir)
        if not (path / INCOMPLETE_MARKER).exists() and (path / TRAINER_STATE_NAME).is_file()
    }
    return str(complete[max(complete)]) if complete else None


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
    for leftover in output_dir.glob(TEMPORARY_PREFIX + "*"):
        _remove(leftover)
    removed = [path for path, _ in _checkpoints(output_dir) if (path / INCOMPLETE_MARKER).exists()]
    for checkpoint in removed:
        _remove(checkpoint)
    for set_aside in output_dir.glob(f"{_SET_ASIDE_PREFIX}{PREFIX_CHECKPOINT_DIR}-*"):
        _put_back(set_aside, output_dir / set_aside.name.removeprefix(_SET_ASIDE_PREFIX))
    return sorted(map(str, removed))


def _checkpoints(output_dir: str | os.PathLike) -> list[tuple[Path, int]]:
    """All of them, whole or not, each with its step."""
    named = [(path, _CHECKPOINT_NAME.fullmatch(path.name)) for path in Path(output_dir).glob("*") if path.is_dir()]
    return [(path, int(name[1])) for path, name in named if name]


def _remove(path: Path) -> None:
    """Remove a folder or file. A folder is renamed first, so that it never looks complete when half removed."""
    if path.is_dir():
        doomed = temporary_name(path.parent)
        os.rename(path, doomed)
        shutil.rmtree(doomed, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _put_back(set_aside: Path, folder: Path) -> None:
    """Give a checkpoint that was set aside its name back, unless a complete one has taken it."""
    if set_aside.is_dir():
        if folder.exists():
            _remove(set_aside)
        else:
            os.rename(set_aside, folder)
