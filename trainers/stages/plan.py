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
from typing import Any

from datasets import Dataset
from torch import nn
from transformers import PreTrainedModel

from ...data import fingerprint_model, fingerprint_rows, fingerprint_source
from ..saving import last_complete_checkpoint
from ..teachers import TeacherSource
from .groups import parameter_groups, resolve_groups
from .stage import Stage, unfold

RESULT_FILE = "stage.json"

# Beside the tokens that the teacher reads.
_COLUMNS = ("input_ids", "members", "labels", "student_positions")


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


@dataclass(frozen=True)
class Materials:
    """What all stages work with.

    Attributes:
        student: before the first stage. A table of word embeddings that is frozen there never learns.
        teacher: as `DistillTrainer` takes it; None where there are only labels to learn from.
        assistant: who teaches in the stages that say so, in the student's own tokens; or None.
        data: name -> tokenised rows.
        eval_dataset: tokenised development rows.
        arguments: of every stage's trainer; a stage's own win.
    """

    student: PreTrainedModel
    teacher: TeacherSource | Sequence[TeacherSource] | None
    assistant: TeacherSource | None
    data: Mapping[str, Dataset]
    eval_dataset: Dataset | None
    arguments: Mapping[str, Any]

    @property
    def freeze_words(self) -> bool:
        """Whether the table of word embeddings never learns, even where a stage trains its group."""
        return not self.student.get_input_embeddings().weight.requires_grad


def plan_stages(stages: Sequence[Stage], materials: Materials, folder: Path) -> list[PlannedStage]:
    """Unfold stages, and give each its key and folder.

    Raises:
        ValueError: no stages, two of one name, data that isn't there, or groups of parameters that the student lacks.
    """
    _check(stages, materials)
    groups = parameter_groups(materials.student)
    prints = {name: fingerprint_rows(dataset, *_COLUMNS) for name, dataset in materials.data.items()}
    key, planned = _root_key(materials), []
    assistant = fingerprint_source(materials.assistant)
    for declared in stages:
        rows = len(materials.data[declared.data])
        for stage in unfold(declared, tuple(groups), rows):
            taught_by = assistant if stage.teacher == "assistant" else None
            key = _hash(key, _describe(stage, materials), prints[stage.data], taught_by)
            place = folder / f"{len(planned) + 1:02d}-{stage.name}-{key[:8]}"
            count = stage.chunk[1] - stage.chunk[0] if stage.chunk else rows
            learning = None if stage.lora else _learning(stage, groups, materials)
            planned.append(PlannedStage(stage, key, place, count, learning, sum(map(_size, groups.values()))))
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


def _check(stages: Sequence[Stage], materials: Materials) -> None:
    names = [stage.name for stage in stages]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"A run needs at least one stage, each with a name of its own, but the names are {names}.")
    for stage in stages:
        if stage.data not in materials.data:
            raise ValueError(
                f"The stage {stage.name!r} trains on {stage.data!r}, but there are only {', '.join(materials.data)}."
            )
        if stage.teacher == "assistant" and materials.assistant is None:
            raise ValueError(f"The stage {stage.name!r} is taught by an assistant, but the run has none (assistant=).")


def _root_key(materials: Materials) -> str:
    """Of what all stages depend on."""
    teacher = materials.teacher
    sources = teacher if isinstance(teacher, list | tuple) else [teacher]
    dev = materials.eval_dataset and fingerprint_rows(materials.eval_dataset, *_COLUMNS)
    return _hash(fingerprint_model(materials.student), [fingerprint_source(source) for source in sources], dev)


def _describe(stage: Stage, materials: Materials) -> dict[str, Any]:
    told = {f.name: getattr(stage, f.name) for f in fields(Stage) if f.name != "unfolded_from"}
    return told | {
        "trainer": stage.trainer.__name__,
        "arguments": {**materials.arguments, **stage.arguments},
        "freeze_words": materials.freeze_words,
    }


def _learning(stage: Stage, groups: Mapping[str, list[nn.Parameter]], materials: Materials) -> int:
    chosen = groups if stage.trainable is None else resolve_groups(stage.trainable, groups)
    words = materials.student.get_input_embeddings().weight
    frozen = words.numel() if materials.freeze_words and any(words is p for n in chosen for p in groups[n]) else 0
    return sum(_size(groups[name]) for name in chosen) - frozen


def _size(parameters: Sequence[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
