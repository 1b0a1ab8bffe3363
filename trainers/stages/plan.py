"""The plan of a run: its stages with their data, folders and states.

The name of a stage's folder contains a key: a hash of all settings and data that its result depends on, including the
key of the previous stage. If a stage is changed, this stage and all later ones get new folders, so no stale result is
used.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...data import ROW_COLUMNS, VECTORS, fingerprint_model, fingerprint_rows, fingerprint_source
from ...modeling import parameter_count
from ..arguments import that_change_weights
from ..saving import last_complete_checkpoint
from .groups import parameter_groups, trained_parameters
from .stage import Stage, unfold

if TYPE_CHECKING:
    from .run import StagedRun

RESULT_FILE = "stage.json"
# Columns in the fingerprint of a dataset, in addition to the teacher's tokens.
_COLUMNS = (*ROW_COLUMNS, VECTORS)


@dataclass(frozen=True)
class PlannedStage:
    """A stage in the plan of a run.

    Attributes:
        stage: the stage.
        key: hash of all that the result depends on.
        folder: folder of the result.
        rows: number of training rows.
        trainable: number of the student's trained parameters; None if adapters are trained.
        parameters: number of all parameters of the student.
    """

    stage: Stage
    key: str
    folder: Path
    rows: int
    trainable: int | None
    parameters: int

    @property
    def is_finished(self) -> bool:
        """Whether the stage has a result."""
        return (self.folder / RESULT_FILE).exists()

    @property
    def abandoned(self) -> list[Path]:
        """Folders with checkpoints of a killed run of this stage with other settings or data. They are not used."""
        alike = re.compile(rf"\d+-{re.escape(self.stage.name)}-[0-9a-f]{{8}}")
        found = [each for each in self.folder.parent.glob("*-*-*") if alike.fullmatch(each.name)]
        others = [each for each in found if each != self.folder and not (each / RESULT_FILE).exists()]
        return sorted(each for each in others if last_complete_checkpoint(each))

    @property
    def state(self) -> str:
        """`"finished"`, `"interrupted"` or `"to do"`."""
        if self.is_finished:
            return "finished"
        return "interrupted" if last_complete_checkpoint(self.folder) else "to do"


def plan_stages(run: StagedRun) -> list[PlannedStage]:
    """Unfold a run's stages, and assign their keys and folders.

    Raises:
        ValueError: there are no stages, two have the same name, or a stage names data or groups of parameters that
            don't exist.
    """
    _check(run)
    groups, parameters = tuple(parameter_groups(run.student)), parameter_count(run.student)
    prints = {name: fingerprint_rows(dataset, *_COLUMNS) for name, dataset in run.data.items()}
    assistant = fingerprint_source(run.assistant)
    key, planned = _root_key(run), []
    for declared in run.stages:
        rows = len(run.data[declared.data])
        for stage in unfold(declared, groups, rows):
            taught_by = assistant if stage.teacher == "assistant" else None
            key = _hash(key, _describe(stage, run), prints[stage.data], taught_by)
            folder = Path(run.folder) / f"{len(planned) + 1:02d}-{stage.name}-{key[:8]}"
            count = stage.chunk[1] - stage.chunk[0] if stage.chunk else rows
            learning = trained_parameters(run.student, stage.trainable, freeze_words=run.freeze_words)
            trainable = None if stage.lora else sum(parameter.numel() for parameter in learning)
            planned.append(PlannedStage(stage, key, folder, count, trainable, parameters))
    return planned


def plan_table(planned: Sequence[PlannedStage]) -> list[list[str]]:
    """A plan as rows of a table, the header first."""
    head = ["stage", "state", "data", "rows", "trainable", "frozen", "folder"]
    body = [
        [
            each.stage.name,
            each.state,
            each.stage.data,
            f"{each.rows:,}",
            "adapters" if each.trainable is None else f"{each.trainable:,}",
            "-" if each.trainable is None else f"{each.parameters - each.trainable:,}",
            each.folder.name,
        ]
        for each in planned
    ]
    return [head, *body]


def _check(run: StagedRun) -> None:
    names = [stage.name for stage in run.stages]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"A run needs at least one stage, and their names must differ, but they are {names}.")
    for stage in run.stages:
        if stage.data not in run.data:
            raise ValueError(
                f"The stage {stage.name!r} trains on {stage.data!r}, but the datasets are {', '.join(run.data)}."
            )
        if stage.teacher == "assistant" and run.assistant is None:
            raise ValueError(f"The stage {stage.name!r} has teacher='assistant', but the run has none (assistant=...).")


def _root_key(run: StagedRun) -> str:
    """Hash of all that every stage depends on."""
    teachers = run.teacher if isinstance(run.teacher, list | tuple) else [run.teacher]
    dev = run.eval_dataset
    if isinstance(dev, Mapping):
        dev = {name: fingerprint_rows(rows, *_COLUMNS) for name, rows in dev.items()}
    elif dev is not None:
        dev = fingerprint_rows(dev, *_COLUMNS)
    return _hash(fingerprint_model(run.student), [fingerprint_source(teacher) for teacher in teachers], dev)


def _describe(stage: Stage, run: StagedRun) -> dict[str, Any]:
    return {f.name: getattr(stage, f.name) for f in fields(Stage) if f.name != "unfolded_from"} | {
        "trainer": stage.trainer.__name__,
        "arguments": that_change_weights(run.arguments_of(stage)),
        "freeze_words": run.freeze_words,
    }


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
