"""Running a list of stages: each goes on from the one before, is skipped if it is finished, and resumed if it isn't."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
from peft import PeftModel
from safetensors.torch import load_file
from transformers import EarlyStoppingCallback, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, set_seed

from ...data import write_json
from ...modeling import add_projector, projected_classifier
from ..distill_trainer import DistillTrainer
from ..saving import last_complete_checkpoint
from ..student_trainer import HEADS_FILE
from ..teachers import TeacherSource
from .adapters import add_lora
from .callbacks import Score, ScoreOnDev
from .groups import parameter_groups, train_only
from .memory import release_memory
from .plan import RESULT_FILE, Materials, PlannedStage, plan_stages
from .stage import Stage


@dataclass(frozen=True)
class StageResult:
    """What a stage came to.

    Attributes:
        name: the stage's.
        folder: holds the student as a stock folder.
        scores: of the student on development data when the stage had ended.
        steps: that it took.
        log_history: the trainer's log.
        card: the facts of its model card (see `CardFacts`).
    """

    name: str
    folder: Path
    scores: Mapping[str, float]
    steps: int
    log_history: Sequence[Mapping[str, Any]]
    card: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> StageResult:
        """Read what a finished stage has left in its folder."""
        found = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
        return cls(**found["result"] | {"folder": folder})

    def write(self, key: str) -> None:
        """Leave it in its folder: from now on the stage is finished."""
        write_json(self.folder / RESULT_FILE, {"key": key, "result": asdict(self) | {"folder": None}})


class StagedRun:
    """A student and the stages that it goes through.

    Killed at any moment and run again, it goes on where it was, and ends with the weights with which it would have.

    Args:
        stages: in their order; those with `gradual_unfreezing` or `chunk_rows` are unfolded.
        student: before the first stage. It stays as it is. A table of word embeddings that is frozen (see
            `shrink(freeze_embeddings=True)`) never learns; of all else, the stages say what does.
        teacher: as `DistillTrainer` takes it; None where there are only labels to learn from.
        folder: where the stages' folders lie.
        data: name -> tokenised rows (see `retort.data.tokenize`).
        assistant: who teaches in the stages that say so: another model, which reads the student's own tokens.
        eval_dataset: tokenised development rows, for losses by which a stage may select its best model.
        processing_class: the student's tokenizer.
        teacher_processing_class: the teacher's, where it differs.
        arguments: of every stage's trainer; a stage's own win.
        score: of a student on development data; it is added to every evaluation, and its first value tells which
            stage was the best.
        callbacks: for every stage's trainer.

    Raises:
        ValueError: see `plan_stages`.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        student: PreTrainedModel,
        teacher: TeacherSource | Sequence[TeacherSource] | None = None,
        *,
        folder: str | Path,
        data: Mapping[str, datasets.Dataset],
        assistant: TeacherSource | None = None,
        eval_dataset: datasets.Dataset | None = None,
        processing_class: PreTrainedTokenizerBase,
        teacher_processing_class: PreTrainedTokenizerBase | None = None,
        arguments: Mapping[str, Any] | None = None,
        score: Score | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ):
        self.materials = Materials(student, teacher, assistant, data, eval_dataset, arguments or {})
        self.stages, self.folder = list(stages), Path(folder)
        self.tokenizers = {"processing_class": processing_class, "teacher_processing_class": teacher_processing_class}
        self.score, self.callbacks = score, list(callbacks)

    @cached_property
    def plan(self) -> list[PlannedStage]:
        """What will be run, in order."""
        return plan_stages(self.stages, self.materials, self.folder)

    def run(self) -> list[StageResult]:
        """Run what isn't finished yet.

        Returns:
            The results of all stages, in order.
        """
        before: Path | None = None
        for index, planned in enumerate(self.plan):
            if not planned.is_finished:
                self._run_stage(index, before)
                release_memory()
            before = planned.folder
        return [StageResult.read(planned.folder) for planned in self.plan]

    def _run_stage(self, index: int, before: Path | None) -> None:
        planned = self.plan[index]
        student = self._student_after(before)
        adapted = self._freeze(student, planned.stage)
        trainer = self._trainer(planned, student)
        checkpoint = last_complete_checkpoint(planned.folder)
        if trainer.is_world_process_zero():
            going_on = f" Going on from {checkpoint}." if checkpoint else ""
            print(f"\nStage {index + 1} of {len(self.plan)}: {planned.stage.name}.{going_on}", flush=True)
        trainer.train(resume_from_checkpoint=checkpoint)
        if adapted is not None:
            adapted.merge_and_unload()
        trainer.save_model()
        trainer.save_heads(planned.folder)
        scores = dict(self.score(student)) if self.score else {}
        trainer.accelerator.wait_for_everyone()  # a rank may still be reading the best checkpoint
        if trainer.is_world_process_zero():
            name, folder, state, facts = planned.stage.name, planned.folder, trainer.state, asdict(trainer.card_facts())
            StageResult(name, folder, scores, state.global_step, state.log_history, facts).write(planned.key)
            self._tidy_up(index)
        trainer.accelerator.wait_for_everyone()

    def _tidy_up(self, index: int) -> None:
        """Remove a finished stage's checkpoints, and cached outputs of the teacher that no later stage reads."""
        for checkpoint in self.plan[index].folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        still_read = {planned.stage.cache_name for planned in self.plan[index + 1 :]}
        for cache in self._caches.glob("*"):
            if cache.name not in still_read:
                shutil.rmtree(cache)
        if self._caches.is_dir() and not any(self._caches.iterdir()):
            self._caches.rmdir()

    def _trainer(self, planned: PlannedStage, student: PreTrainedModel) -> DistillTrainer:
        stage = planned.stage
        settings = {"report_to": [], **self.materials.arguments, **stage.arguments}
        if settings.get("attention_weight"):
            student.set_attn_implementation("eager")
        if stage.cache_teacher:
            settings["teacher_cache"] = str(self._caches / stage.cache_name)
        args = stage.trainer.arguments_class(output_dir=str(planned.folder), **settings)
        rows = self.materials.data[stage.data]
        train_dataset = rows.select(range(*stage.chunk)) if stage.chunk else rows
        eval_dataset = self.materials.eval_dataset if args.do_eval else None
        teacher, tokenizers = self.materials.teacher, self.tokenizers
        if stage.teacher == "assistant":
            teacher, tokenizers = self.materials.assistant, tokenizers | {"teacher_processing_class": None}
            train_dataset, eval_dataset = _students_alone(train_dataset), eval_dataset and _students_alone(eval_dataset)
        return stage.trainer(
            student,
            teacher,
            args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            callbacks=self._callbacks(stage),
            **tokenizers,
        )

    def _callbacks(self, stage: Stage) -> list[TrainerCallback]:
        # Early stopping reads what the score adds, so it comes behind it.
        score = [ScoreOnDev(self.score)] if self.score else []
        stop = [EarlyStoppingCallback(stage.patience)] if stage.patience else []
        return [*self.callbacks, *score, *stop]

    def _freeze(self, student: PreTrainedModel, stage: Stage) -> PeftModel | None:
        """Freeze what doesn't learn; returns the student wrapped in adapters, if there are any."""
        if stage.lora is not None:
            set_seed({**self.materials.arguments, **stage.arguments}.get("seed", 42))
            return add_lora(student, stage.lora)
        names = parameter_groups(student) if stage.trainable is None else stage.trainable
        train_only(student, names, freeze_words=self.materials.freeze_words)
        return None

    def _student_after(self, folder: Path | None) -> PreTrainedModel:
        """The student as a stage has left it; always read from its files, as a run that was interrupted must."""
        start = self.materials.student
        if folder is None:
            return copy.deepcopy(start)
        student = type(start).from_pretrained(folder, dtype=start.dtype)
        if found := projected_classifier(start):
            name, classifier = found
            add_projector(student, classifier.classifier.in_features)
            prefix = f"student.{name}."
            saved = load_file(folder / HEADS_FILE)
            parts = {key.removeprefix(prefix): value for key, value in saved.items() if key.startswith(prefix)}
            student.get_submodule(name).load_state_dict(parts)
        return student

    @property
    def _caches(self) -> Path:
        return self.folder / "_teacher"


def _students_alone(rows: datasets.Dataset) -> datasets.Dataset:
    """Rows without what was made for a teacher with a tokenizer of its own."""
    theirs = [name for name in rows.column_names if name.startswith("teacher_") or name == "student_positions"]
    return rows.remove_columns(theirs)
