"""What a list of stages comes to: which runs, on what, in which folders, and which of them are done already.

A folder is named by a key: a hash of all that a stage's result depends on, the key of the stage before among it. A
stage that was changed, and all that follow it, so get new folders, and nothing stale is ever gone on from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...data import VECTORS, fingerprint_model, fingerprint_rows, fingerprint_source
from ...modeling import parameter_count
from ..arguments import that_change_weights
from ..saving import last_complete_checkpoint
from .groups import parameter_groups, trained_parameters
from .stage import Stage, unfold

if TYPE_CHECKING:
    from .run import StagedRun

RESULT_FILE = "stage.json"
# Beside the tokens that the teacher reads.
_COLUMNS = ("input_ids", "members", "token_type_ids", "labels", "student_positions", "spans", "teacher_spans", VECTORS)


@dataclass(frozen=True)
class PlannedStage:
    """A stage in its place.

    Attributes:
        stage: what is run.
        key: names all that the result depends on.
        folder: where it is kept.
        rows: that it trains on.
        trainable: number of the student's parameters that learn; None where adapters do.
        parameters: number of all of the student's.
    """

    stage: Stage
    key: str
    folder: Path
    rows: int
    trainable: int | None
    parameters: int

    @property
    def is_finished(self) -> bool:
        """Whether its result is there."""
        return (self.folder / RESULT_FILE).exists()

    @property
    def state(self) -> str:
        """`"finished"`, `"interrupted"` or `"to do"`."""
        if self.is_finished:
            return "finished"
        return "interrupted" if last_complete_checkpoint(self.folder) else "to do"


def plan_stages(run: StagedRun) -> list[PlannedStage]:
    """Unfold a run's stages, and give each its key and folder.

    Raises:
        ValueError: no stages, two of one name, data that isn't there, or groups of parameters that the student lacks.
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
    """A plan as rows of a table, head first."""
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
        raise ValueError(f"A run needs at least one stage, each with a name of its own, but the names are {names}.")
    for stage in run.stages:
        if stage.data not in run.data:
            raise ValueError(
                f"The stage {stage.name!r} trains on {stage.data!r}, but there are only {', '.join(run.data)}."
            )
        if stage.teacher == "assistant" and run.assistant is None:
            raise ValueError(f"The stage {stage.name!r} is taught by an assistant, but the run has none (assistant=).")


def _root_key(run: StagedRun) -> str:
    """Of what all stages depend on."""
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
