"""A stage: one `train()` with its own data, objectives and trainable parts; and what it may be unfolded into."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ...data import check_folder_name
from ..arguments import check_choices
from ..distill_trainer import DistillTrainer
from .groups import unfreezing_order


@dataclass(frozen=True)
class Stage:
    """One run of a trainer, in a list of them.

    Attributes:
        name: what logs and folders call it.
        arguments: of the trainer, by the names of its arguments class: objectives, epochs, learning rate...
        data: which of the datasets at hand it trains on.
        trainable: the groups of parameters that learn (see `parameter_groups`); None for all. Frozen parts stay in eval
            mode: what is not trained computes what it will compute when it is used.
        gradual_unfreezing: make one stage of this one for each group, each training one more, from the head down;
            with the encoder's layers and embeddings as one group (`"encoder"`, as XtremeDistilTransformers), or one by
            one (`"layers"`).
        chunk_rows: make one stage of this one for each so many rows, so that what is kept of the teacher's outputs
            on disk is a chunk's. None for all rows at once. On the CPU, many chunks call for `bound_kernel_cache`.
        cache_teacher: run the teacher once, before training, and read its outputs from disk; they are removed when no
            stage needs them any more.
        patience: end after so many evaluations without a better one; needs `load_best_model_at_end` in `arguments`.
        lora: settings of `peft.LoraConfig`: train low-rank adapters and the head, and merge them when the stage ends.
        trainer: the trainer's class.
        teacher: who teaches: the run's `"teacher"`, or its `"assistant"`.
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
    # What unfolding a stage fills in.
    chunk: tuple[int, int] | None = field(default=None, kw_only=True)
    unfolded_from: str = field(default="", kw_only=True)

    def __post_init__(self):
        check_choices(self, f"The stage {self.name!r}: ")
        check_folder_name(self.name, "A stage")
        if self.gradual_unfreezing and (self.trainable or self.lora):
            raise ValueError(
                f"The stage {self.name!r} has gradual_unfreezing, which says what learns when: leave out trainable and "
                "lora."
            )
        if self.chunk_rows is not None and self.chunk_rows < 1:
            raise ValueError(f"The stage {self.name!r} has chunk_rows={self.chunk_rows}: at least 1, or None for all.")

    @property
    def cache_name(self) -> str:
        """What its share of the teacher's outputs is called: stages with the same objectives and rows share it."""
        return f"{self.unfolded_from or self.name}{_chunk_suffix(self.chunk)}"


def unfold(stage: Stage, groups: Sequence[str], rows: int) -> list[Stage]:
    """The stages that one with `gradual_unfreezing` or `chunk_rows` stands for; itself, if it has neither.

    Every chunk is trained on before the next group is unfrozen, as in XtremeDistilTransformers.

    Args:
        stage: as it was declared.
        groups: the student's groups of parameters, from the top down.
        rows: of the stage's data.
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
    """One of the stages that another stands for."""
    return replace(stage, name=f"{stage.name}{suffix}", unfolded_from=stage.unfolded_from or stage.name, **changes)


def _newest(step: tuple[str, ...], by: str) -> str:
    """What a step of unfreezing is called: by the group that it adds."""
    return "encoder" if by == "encoder" and step[-1] not in ("head", "projector") else step[-1]


def _chunk_suffix(chunk: tuple[int, int] | None) -> str:
    return "" if chunk is None else f"-rows-{chunk[0]}-{chunk[1]}"
