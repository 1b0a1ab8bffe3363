"""A stage: one `train()` with its own data, objectives and trained parameters; and unfolding into several stages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ...data import check_folder_name
from ..arguments import check_choices
from ..contrastive_trainer import ContrastiveTrainer
from ..distill_trainer import DistillTrainer
from .groups import unfreezing_order


@dataclass(frozen=True)
class Stage:
    """One run of a trainer within a `StagedRun`.

    Attributes:
        name: name in logs and folders.
        arguments: training arguments: objectives, epochs, learning rate...
        data: name of the dataset to train on.
        trainable: groups of parameters to train (see `parameter_groups`); None for all, an empty list for projectors
            alone. Frozen modules stay in eval mode, so they compute the same as at inference.
        gradual_unfreezing: unfold into one stage per group of parameters. Each trains one group more, from the head
            down, with the encoder's layers and embeddings as one group (`"encoder"`, as XtremeDistilTransformers) or
            one by one (`"layers"`).
        chunk_rows: unfold into one stage per this many rows, so that only one chunk's teacher outputs are on disk. None
            for all rows at once. On the CPU, use `bound_kernel_cache` with many chunks.
        cache_teacher: run the teacher once before training, and read its outputs from disk. They are removed when no
            stage needs them any more.
        patience: stop after this many evaluations without improvement. Needs `load_best_model_at_end` in `arguments`.
        lora: arguments of `peft.LoraConfig`. Trains low-rank adapters and the head, and merges them at the end of the
            stage.
        trainer: class of the trainer.
        teacher: `"teacher"` or `"assistant"` of the run.
    """

    name: str
    arguments: Mapping[str, Any]
    data: str = "train"
    trainable: Sequence[str] | None = None
    gradual_unfreezing: Literal["encoder", "layers"] | None = None
    chunk_rows: int | None = None
    cache_teacher: bool = False
    patience: int | None = None
    lora: Mapping[str, Any] | None = None
    trainer: type[DistillTrainer] = DistillTrainer
    teacher: Literal["teacher", "assistant"] = "teacher"
    # Set when a stage is unfolded.
    chunk: tuple[int, int] | None = field(default=None, kw_only=True)
    unfolded_from: str = field(default="", kw_only=True)

    def __post_init__(self):
        check_choices(self, f"The stage {self.name!r}: ")
        check_folder_name(self.name, "A stage")
        if self.gradual_unfreezing and (self.trainable or self.lora):
            raise ValueError(
                f"The stage {self.name!r} has gradual_unfreezing, which selects the trained parameters: leave out "
                "trainable and lora."
            )
        if self.cache_teacher and issubclass(self.trainer, ContrastiveTrainer):
            raise ValueError(
                f"The stage {self.name!r} has cache_teacher, but its trainer reads groups of texts, and a cache has "
                "the outputs of one text in each row. Leave cache_teacher out."
            )
        if self.chunk_rows is not None and self.chunk_rows < 1:
            raise ValueError(
                f"The stage {self.name!r} has chunk_rows={self.chunk_rows}: it must be at least 1, or None for all."
            )

    @property
    def cache_name(self) -> str:
        """Name of the cache of teacher outputs. Stages with the same objectives and rows share it."""
        return f"{self.unfolded_from or self.name}{_chunk_suffix(self.chunk)}"


def unfold(stage: Stage, groups: Sequence[str], rows: int) -> list[Stage]:
    """Unfold a stage with `gradual_unfreezing` or `chunk_rows` into several; other stages are returned unchanged.

    All chunks are trained on before the next group is unfrozen, as in XtremeDistilTransformers. `groups` are the
    student's groups of parameters, from the top down.
    """
    by, unfrozen = stage.gradual_unfreezing, [stage]
    if by:
        steps = unfreezing_order(groups, by)
        unfrozen = [_part(stage, f"-{_newest(step, by)}", trainable=step, gradual_unfreezing=None) for step in steps]
    if stage.chunk_rows is None:
        return unfrozen
    chunks = [(start, min(start + stage.chunk_rows, rows)) for start in range(0, rows, stage.chunk_rows)]
    return [_part(each, _chunk_suffix(chunk), chunk=chunk, chunk_rows=None) for each in unfrozen for chunk in chunks]


def _part(stage: Stage, suffix: str, **changes: Any) -> Stage:
    """One of the stages that a stage is unfolded into."""
    return replace(stage, name=f"{stage.name}{suffix}", unfolded_from=stage.unfolded_from or stage.name, **changes)


def _newest(step: tuple[str, ...], by: str) -> str:
    """Name of the group that a step of unfreezing adds."""
    return "encoder" if by == "encoder" and step[-1] not in ("head", "projector") else step[-1]


def _chunk_suffix(chunk: tuple[int, int] | None) -> str:
    return "" if chunk is None else f"-rows-{chunk[0]}-{chunk[1]}"


def check_sharded_teacher(stage: Stage, arguments: Mapping[str, Any], *, in_memory: bool) -> None:
    """Refuse a teacher that FSDP would shard in a stage, if its outputs are cached or other stages need it whole.

    Args:
        stage: the stage.
        arguments: its training arguments, with those of the run.
        in_memory: whether the teacher is a model, not a folder or hub id.
    """
    if not (arguments.get("fsdp") and arguments.get("shard_teacher")):
        return
    if stage.cache_teacher or arguments.get("teacher_cache"):
        raise ValueError(
            "under FSDP, a sharded teacher can't be cached. Leave out shard_teacher, or set cache_teacher to false and "
            "leave out teacher_cache."
        )
    if in_memory:
        raise ValueError(
            "FSDP shards a teacher in place, and this one is in memory, where other stages need it whole. Pass its "
            "folder or hub id, or leave out shard_teacher."
        )
