"""Checks of the caches of teacher outputs that stages name themselves (`teacher_cache`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..teachers import LiveTeacher, check_cache, describe_cache

if TYPE_CHECKING:
    from ..distill_trainer import DistillTrainer


class NamedCaches:
    """The caches of a run's stages. A folder holds the teacher's outputs for one dataset, so stages with other data,
    another teacher or other outputs can't share it.

    Args:
        of_outlines: whether teachers may still be untrained. Their weights are then not compared with a cache on disk.
    """

    def __init__(self, *, of_outlines: bool):
        self._of_outlines = of_outlines
        self._outputs: dict[Path, tuple[str, dict[str, Any]]] = {}  # folder -> the first stage, and what it caches

    def add(self, stage: str, folder: str, trainer: DistillTrainer, *, in_chunks: bool) -> None:
        """Check the cache of a stage.

        Args:
            stage: name of the stage.
            folder: its `teacher_cache`.
            trainer: its trainer, with the live teacher.
            in_chunks: whether the stage trains on chunks of its data.

        Raises:
            ValueError: an earlier stage, or an earlier run, caches something else in this folder; or the stage has
                several chunks.
        """
        if not isinstance(trainer.teacher, LiveTeacher):
            return  # nothing is cached, or the trainer has read the cache
        if in_chunks:
            raise ValueError(
                "it has chunk_rows, but teacher_cache names one folder for all chunks. Leave teacher_cache out, and "
                "set cache_teacher in this stage, which caches each chunk by itself."
            )
        outputs = describe_cache(trainer.teacher, trainer.train_dataset, trainer.args.teacher_cache_dtype)
        place = Path(folder).resolve()
        if place.exists() and not place.is_dir():
            raise ValueError(f"teacher_cache={folder!r} is a file, but must be a folder, or not exist yet.")
        other, theirs = self._outputs.setdefault(place, (stage, outputs))
        if outputs != theirs:
            raise ValueError(
                f"teacher_cache={folder!r} is also that of the stage {other!r}, but the two stages have other rows, "
                "another teacher or other objectives, so they can't share its outputs. Leave teacher_cache out and set "
                "cache_teacher in both stages, or name a folder for each."
            )
        unknown = ("teacher", "precision") if self._of_outlines else ()
        check_cache(place / "train", {name: each for name, each in outputs.items() if name not in unknown})
