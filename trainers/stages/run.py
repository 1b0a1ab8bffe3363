"""Running a list of stages: each goes on from the one before, is skipped if it is finished, and resumed if it isn't."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
from safetensors.torch import load_file
from transformers import EarlyStoppingCallback, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, set_seed

from ...data import remove_folder, sweep
from ...modeling import add_projector, projected_classifier, release_memory
from ..distill_trainer import DistillTrainer
from ..saving import last_complete_checkpoint, remove_checkpoints
from ..student_trainer import HEADS_FILE
from ..teachers import TeacherSource
from .groups import add_lora, train_only
from .plan import PlannedStage, plan_stages
from .results import StageResult
from .stage import Stage

if TYPE_CHECKING:
    from peft import PeftModel

Score = Callable[[PreTrainedModel], Mapping[str, float]]


class ScoreOnDev(TrainerCallback):
    """Adds scores on development data to every evaluation, by which the best model may be selected.

    Args:
        score: names scores of a student; they are reported as `eval_<name>`.
    """

    def __init__(self, score: Score):
        self.score = score

    def on_evaluate(self, args, state, control, metrics, model, **kwargs):
        """Score the student as it stands."""
        metrics |= {f"eval_{name}": value for name, value in self.score(model.student).items()}


@dataclass(frozen=True, eq=False)
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
        eval_dataset: tokenised development rows, or a dict of several, for losses by which a stage may select its best
            model.
        processing_class: the student's tokenizer.
        teacher_processing_class: the teacher's, where it differs.
        arguments: of every stage's trainer; a stage's own win.
        score: of a student on development data; it is added to every evaluation, and its first value tells which
            stage was the best.
        callbacks: for every stage's trainer.

    Raises:
        ValueError: see `plan_stages`.
    """

    stages: Sequence[Stage]
    student: PreTrainedModel
    teacher: TeacherSource | Sequence[TeacherSource] | None = None
    _: KW_ONLY
    folder: str | Path
    data: Mapping[str, datasets.Dataset]
    assistant: TeacherSource | None = None
    eval_dataset: datasets.Dataset | Mapping[str, datasets.Dataset] | None = None
    processing_class: PreTrainedTokenizerBase
    teacher_processing_class: PreTrainedTokenizerBase | None = None
    arguments: Mapping[str, Any] | None = None
    score: Score | None = None
    callbacks: Sequence[TrainerCallback] = ()

    @cached_property
    def plan(self) -> list[PlannedStage]:
        """What will be run, in order."""
        return plan_stages(self)

    @property
    def freeze_words(self) -> bool:
        """Whether the table of word embeddings never learns, even where a stage trains its group."""
        return not self.student.get_input_embeddings().weight.requires_grad

    def arguments_of(self, stage: Stage) -> dict[str, Any]:
        """The arguments of a stage's trainer: the stage's own beside the run's."""
        return {**(self.arguments or {}), **stage.arguments}

    def run(self) -> list[StageResult]:
        """Run what isn't finished yet.

        Returns:
            The results of all stages, in order.

        Raises:
            DamagedFilesError: the files of a stage that was finished earlier, or of a checkpoint, are not what was
                written.
        """
        before: Path | None = None
        sweep(self.folder)
        for index, planned in enumerate(self.plan):
            sweep(planned.folder)
            if planned.is_finished:
                StageResult.read(planned.folder)
                self._tidy_up(index)  # a kill may have come before this was done
            else:
                self._run_stage(index, before)
                release_memory()
            before = planned.folder
        return [StageResult.read(planned.folder, check=False) for planned in self.plan]

    def _run_stage(self, index: int, before: Path | None) -> None:
        planned = self.plan[index]
        student = self._student_after(before)
        adapted = self._freeze(student, planned.stage)
        trainer = self._trainer(planned, student)
        checkpoint = last_complete_checkpoint(planned.folder)
        if trainer.is_world_process_zero():
            print(f"\nStage {index + 1} of {len(self.plan)}: {planned.stage.name}.", flush=True)
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
        """Remove a finished stage's checkpoints, and cached outputs of the teacher that no later stage reads.

        Several processes may do so at once.
        """
        remove_checkpoints(self.plan[index].folder)
        still_read = {planned.stage.cache_name for planned in self.plan[index + 1 :]}
        for cache in self._caches.glob("*"):
            if cache.name not in still_read:
                remove_folder(cache)
        with suppress(OSError):  # it isn't there, or not empty
            self._caches.rmdir()

    def _trainer(self, planned: PlannedStage, student: PreTrainedModel) -> DistillTrainer:
        stage = planned.stage
        settings = {"report_to": [], **self.arguments_of(stage)}
        if settings.get("attention_weight"):
            student.set_attn_implementation("eager")
        if stage.cache_teacher:
            settings["teacher_cache"] = str(self._caches / stage.cache_name)
        args = stage.trainer.arguments_class(output_dir=str(planned.folder), **settings)
        rows = self.data[stage.data]
        train_dataset = rows.select(range(*stage.chunk)) if stage.chunk else rows
        eval_dataset = self.eval_dataset if args.do_eval else None
        teacher, teacher_tokenizer = self.teacher, self.teacher_processing_class
        if stage.teacher == "assistant":
            teacher, teacher_tokenizer = self.assistant, None
            train_dataset = _students_alone(train_dataset)
            if isinstance(eval_dataset, Mapping):
                eval_dataset = {name: _students_alone(rows) for name, rows in eval_dataset.items()}
            else:
                eval_dataset = eval_dataset and _students_alone(eval_dataset)
        # Early stopping reads what the score adds, so it comes behind it.
        score = [ScoreOnDev(self.score)] if self.score else []
        stop = [EarlyStoppingCallback(stage.patience)] if stage.patience else []
        return stage.trainer(
            student,
            teacher,
            args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            callbacks=[*self.callbacks, *score, *stop],
            processing_class=self.processing_class,
            teacher_processing_class=teacher_tokenizer,
        )

    def _freeze(self, student: PreTrainedModel, stage: Stage) -> PeftModel | None:
        """Freeze what doesn't learn; returns the student wrapped in adapters, if there are any."""
        if stage.lora is not None:
            set_seed(self.arguments_of(stage).get("seed", 42))
            return add_lora(student, stage.lora)
        train_only(student, stage.trainable, freeze_words=self.freeze_words)
        return None

    def _student_after(self, folder: Path | None) -> PreTrainedModel:
        """The student as a stage has left it; always read from its files, as a run that was interrupted must."""
        if folder is None:
            return copy.deepcopy(self.student)
        student = type(self.student).from_pretrained(folder, dtype=self.student.dtype)
        if found := projected_classifier(self.student):
            name, classifier = found
            add_projector(student, classifier.classifier.in_features)
            prefix = f"student.{name}."
            saved = load_file(folder / HEADS_FILE)
            parts = {key.removeprefix(prefix): value for key, value in saved.items() if key.startswith(prefix)}
            student.get_submodule(name).load_state_dict(parts)
        return student

    @property
    def _caches(self) -> Path:
        return Path(self.folder) / "_teacher"


def _students_alone(rows: datasets.Dataset) -> datasets.Dataset:
    """Rows without what was made for a teacher with a tokenizer of its own."""
    theirs = [name for name in rows.column_names if name.startswith("teacher_") or name == "student_positions"]
    return rows.remove_columns(theirs)
