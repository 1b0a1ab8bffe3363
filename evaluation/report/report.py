"""The data of a report: models with quality, size and speed, and losses."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from numbers import Real
from typing import Any

from ..cost import Footprint, Speed
from .quality import Quality

# Entries of a log that are no scores: parts of losses, and what `Trainer` measures of time and memory.
_NO_SCORE = re.compile(r"(^|_)(loss_|mem_[cg]pu_|(run)?time$|per_second$)")


class Role(StrEnum):
    """Role of a model in a report. An exported model is a student in another format, such as ONNX in int8."""

    TEACHER = "teacher"
    UNTRAINED = "untrained"
    STUDENT = "student"
    EXPORTED = "exported"


@dataclass(frozen=True)
class ModelRow:
    """One model.

    Attributes:
        name: name in tables and figures.
        role: teacher, student, student before training, or exported student.
        quality: printed name of a metric -> value. For the report's metric, higher is better.
        footprint: size of the model.
        speed: speed relative to the teacher in the same run; None if it was not measured.
        layers: number of transformer layers; None if the model has no such layers.
        intervals: name of a metric -> low and high end of its 95 % interval; may lack some metrics.
    """

    name: str
    role: Role
    quality: Mapping[str, float]
    footprint: Footprint
    speed: Speed | None = None
    layers: int | None = None
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self):
        if wrong := {metric: value for metric, value in self.quality.items() if not math.isfinite(value)}:
            raise ValueError(f"A report of {self.name!r} cannot be made of {wrong}: metrics must be finite numbers.")

    @classmethod
    def of(cls, name: str, role: Role, model: Any, quality: Quality, footprint: Footprint | None = None) -> ModelRow:
        """Describe a model whose speed is not measured yet.

        Args:
            name, role: see `ModelRow`.
            quality: scores and intervals.
            model: a `PreTrainedModel`, or any object with a `config` if `footprint` is given.
            footprint: size; measured on `model` if None.
        """
        # The layers of a BiLSTM, which has no attention heads, say nothing beside a transformer's.
        has_attention = getattr(model.config, "num_attention_heads", True)
        layers = model.config.num_hidden_layers if has_attention else None
        size = footprint or Footprint.of(model)
        return cls(name, role, quality.scores, size, layers=layers, intervals=quality.intervals)


# Precision of stored embeddings -> bits of a dimension.
PRECISIONS = {"float32": 32, "int8": 8, "binary": 1}


@dataclass(frozen=True)
class VectorRow:
    """The student's embeddings in one size and precision.

    Attributes:
        dims: number of leading dimensions that are stored.
        precision: one of `PRECISIONS`.
        quality: printed name of a metric -> value.
        megabytes: size of a million embeddings, in 10^6 bytes.
    """

    dims: int
    precision: str
    quality: Mapping[str, float]
    megabytes: int

    @classmethod
    def of(cls, dims: int, precision: str, quality: Mapping[str, float]) -> VectorRow:
        """The row with its size. A vector takes whole bytes."""
        return cls(dims, precision, quality, math.ceil(dims * PRECISIONS[precision] / 8))


@dataclass(frozen=True)
class Report:
    """A comparison of models.

    Attributes:
        rows: the models, in the order of the tables.
        metric: the metric in title and figure; every row has it.
        losses: result of `loss_history`; empty if nothing was trained.
        measured: test data and machine, in one or two sentences.
        test_set: short description of the test data of `metric`, such as "STS-B, 1,379 pairs".
        dev: result of `dev_history`; empty if there was no evaluation in training.
        fingerprint: hash of models and test data, by which a later run finds out whether the report is up to date.
        vectors: the student's embeddings in several sizes and precisions; empty if they were not measured.
    """

    rows: tuple[ModelRow, ...]
    metric: str
    losses: tuple[Mapping[str, float | None], ...] = ()
    measured: str = ""
    test_set: str = ""
    dev: tuple[Mapping[str, float], ...] = ()
    fingerprint: str = ""
    vectors: tuple[VectorRow, ...] = ()

    def __post_init__(self):
        if not self.rows:
            raise ValueError("A report needs at least one model.")
        if lacking := [row.name for row in self.rows if self.metric not in row.quality]:
            raise ValueError(f"The report is about {self.metric!r}, which was not measured for {', '.join(lacking)}.")

    @property
    def teacher(self) -> ModelRow | None:
        """The first teacher."""
        return next((row for row in self.rows if row.role == Role.TEACHER), None)

    @property
    def student(self) -> ModelRow:
        """The model that the report is about: the last student (in PyTorch), or the last model if there is none."""
        return next((row for row in reversed(self.rows) if row.role == Role.STUDENT), self.rows[-1])

    def share_of_teacher(self, row: ModelRow) -> float | None:
        """A model's value of `metric` divided by the teacher's; None if this is not meaningful."""
        teacher = self.teacher
        if teacher is None or teacher.quality[self.metric] <= 0:
            return None
        return row.quality[self.metric] / teacher.quality[self.metric]

    def written(self, row: ModelRow) -> str:
        """A model's value of `metric` as it is printed."""
        return self.number(self.metric, row.quality[self.metric])

    def number(self, metric: str, value: float) -> str:
        """A value of a metric: with three decimals, or with one if any of the report is 10 or above, as on a scale to
        100."""
        values = [abs(row.quality[metric]) for row in (*self.rows, *self.vectors) if metric in row.quality]
        return f"{value:.1f}" if any(each >= 10 for each in values) else f"{value:.3f}"

    @property
    def title(self) -> str:
        """The result in words, such as "3 of 6 layers: 98 % of the teacher's MRR@10 at 1.9x its speed"."""
        teacher, student = self.teacher, self.student
        value = f"{self.metric} {self.written(student)}"
        if teacher is None or student is teacher:
            return f"{student.name}: {value}, {millions(student.footprint.parameters)} parameters"
        share = self.share_of_teacher(student)
        if share is None:
            result = f"{value} (teacher {self.written(teacher)})"
        else:
            result = f"{percent(share)} of the teacher's {self.metric}"
        speed = "" if student.speed is None else f" at {student.speed.speedup:.1f}x its speed"
        return f"{_how_small(teacher, student)}: {result}{speed}"


def loss_history(log_history: Iterable[Mapping[str, float]]) -> tuple[dict[str, float | None], ...]:
    """The training losses in a `Trainer`'s log.

    Args:
        log_history: `trainer.state.log_history`.

    Returns:
        One entry per logged step: `step`, `epoch`, `loss`, and each `loss_<objective>`. None replaces NaN and infinity.
        Evaluation results and the summary at the end of training are left out.
    """
    return tuple(
        {
            name: value if value is not None and math.isfinite(value) else None
            for name, value in entry.items()
            if _is_loss(name, value)
        }
        for entry in log_history
        if "loss" in entry and "step" in entry
    )


def dev_history(
    log_history: Iterable[Mapping[str, float]], names: Mapping[str, str] | None = None
) -> tuple[dict[str, float], ...]:
    """The scores and losses on development data in a `Trainer`'s log.

    Args:
        log_history: `trainer.state.log_history`.
        names: name of a score in the log -> name in the report, if they differ: `{"score": "F1"}`.

    Returns:
        One entry per evaluation: `step`, and each finite `eval_<name>` as `<name>`; parts of losses, times, speeds and
        memory are left out.
    """
    found: dict[int, dict[str, float]] = {}
    for entry in log_history:
        for name, value in entry.items():
            short = name.removeprefix("eval_")
            if short != name and not _NO_SCORE.search(short) and isinstance(value, Real) and math.isfinite(value):
                at_step = found.setdefault(entry["step"], {"step": entry["step"]})
                at_step[(names or {}).get(short, short)] = value
    return tuple(found.values())


def percent(share: float) -> str:
    """A share in per cent, with decimals only if 99.6 % would otherwise be rounded to 100 %."""
    rounded = f"{100 * share:.0f}"
    return f"{100 * share:.1f} %" if rounded == "100" and share < 0.9995 else f"{rounded} %"


def millions(count: int) -> str:
    """A number of parameters, in millions or, below one, in thousands."""
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.1f} k"


def _is_loss(name: str, value: object) -> bool:
    return isinstance(value, Real | None) and (name in ("step", "epoch", "loss") or name.startswith("loss_"))


def _how_small(teacher: ModelRow, student: ModelRow) -> str:
    if student.layers and teacher.layers and student.layers < teacher.layers:
        return f"{student.layers} of {teacher.layers} layers"
    return f"{percent(student.footprint.parameters / teacher.footprint.parameters)} of the parameters"
