"""Runs a list of stages. Finished stages are skipped, an interrupted one is resumed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import datasets
from safetensors.torch import load_file
from torch import nn
from transformers import EarlyStoppingCallback, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, set_seed

from ...data import remove_folder, sweep
from ...modeling import DistillationModel, add_projector, callable_in_parts, projected_classifier, release_memory
from ...modeling.encoding import SentenceEncoder, SentenceModules, read_sentence_modules
from ..contrastive_trainer import ContrastiveTrainer
from ..distill_trainer import DistillTrainer
from ..objectives import Projector
from ..saving import last_complete_checkpoint, remove_checkpoints
from ..student_trainer import HEADS_FILE
from ..teachers import TeacherSource, model_of
from .caches import NamedCaches
from .groups import add_lora, train_only
from .plan import PlannedStage, plan_stages
from .results import StageResult
from .stage import Stage, check_sharded_teacher

if TYPE_CHECKING:
    from peft import PeftModel

Score = Callable[[PreTrainedModel | SentenceEncoder], Mapping[str, float]]


class ScoreOnDev(TrainerCallback):
    """Adds scores on development data to the metrics of every evaluation, e.g. for `metric_for_best_model`.

    Args:
        score: computes name -> score of a student. They are logged as `eval_<name>`. All ranks call it alike.
    """

    def __init__(self, score: Score):
        self.score = score

    def on_evaluate(self, args, state, control, metrics, model, **kwargs):
        """Add the scores of the current student."""
        student = self.current(model)  # it reads the state dict, after which FSDP2 shards the model again
        with callable_in_parts(model):
            scores = self.score(student)
        metrics |= {f"eval_{name}": value for name, value in scores.items()}

    def current(self, model: DistillationModel) -> PreTrainedModel | SentenceEncoder:
        """The student that is scored."""
        return model.student


class ScoreExported(ScoreOnDev):
    """Scores the student of a trainer with the projector that is exported with it.

    Attributes:
        trainer: the trainer, which is made after its callbacks.
    """

    trainer: DistillTrainer

    def current(self, model):
        """The student, or a `SentenceEncoder` if a projector is kept."""
        return exported_student(self.trainer)


def exported_student(trainer: DistillTrainer) -> PreTrainedModel | SentenceEncoder:
    """The current student of a trainer, with the projector that is exported with it."""
    own = trainer.student_encoder
    if not isinstance(trainer.model.projector, Projector) and not (own and own.modules.has_dense):
        return trainer.student
    modules = trainer.exported_modules(trainer.whole_side_weights())
    return SentenceEncoder(trainer.student, trainer.processing_class, modules)


@dataclass(frozen=True, eq=False)
class StagedRun:
    """Trains a student in several stages.

    A run that was killed at any moment continues if it is run again, and ends with the same weights.

    Args:
        stages: the stages in their order. Those with `gradual_unfreezing` or `chunk_rows` are unfolded.
        student: the student before the first stage; it is not changed. Frozen word embeddings (see
            `shrink(freeze_embeddings=True)`) are never trained. The stages define which other parameters are trained.
        teacher: see `DistillTrainer`; None if all stages only use labels.
        folder: folder for the stages' folders.
        data: name -> tokenised rows (see `retort.data.tokenize`).
        assistant: teacher of the stages with `teacher="assistant"`. It reads the student's own tokens.
        eval_dataset: tokenised development rows, or a dict of several, for losses by which a stage may select its best
            model.
        processing_class: the student's tokenizer.
        teacher_processing_class: the teacher's tokenizer, if it differs.
        arguments: training arguments of all stages; a stage's own arguments take precedence.
        score: computes name -> score of a student on development data. The scores are added to every evaluation; the
            first one decides which stage is the best.
        callbacks: callbacks for all stages.

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
        """The planned stages, in order."""
        return plan_stages(self)

    @property
    def freeze_words(self) -> bool:
        """Whether the word embeddings are never trained, even if a stage trains their group."""
        return not self.student.get_input_embeddings().weight.requires_grad

    def arguments_of(self, stage: Stage) -> dict[str, Any]:
        """The training arguments of a stage: the run's arguments, updated with the stage's own."""
        return {**(self.arguments or {}), **stage.arguments}

    def run(self) -> list[StageResult]:
        """Run all stages that are not finished yet.

        Returns:
            The results of all stages, in order.

        Raises:
            DamagedFilesError: files of a finished stage or of a checkpoint are missing or were changed.
            ValueError: a stage's trainer refuses its arguments, models or rows. All stages are checked before the first
                one is trained.
        """
        before: Path | None = None
        sweep(self.folder)
        self._check(next((i for i, planned in enumerate(self.plan) if not planned.is_finished), len(self.plan)))
        for index, planned in enumerate(self.plan):
            sweep(planned.folder)
            if planned.is_finished:
                StageResult.read(planned.folder)
                self._tidy_up(index)  # the run may have been killed before this was done
            else:
                self._run_stage(index, before)
                release_memory()
            before = planned.folder
        return [StageResult.read(planned.folder, check=False) for planned in self.plan]

    def check(self) -> None:
        """Make the trainer of every stage, and discard it. Nothing is trained or written.

        Raises:
            DamagedFilesError: files of a finished stage are missing or were changed.
            ValueError: a stage's trainer refuses its arguments, models or rows; or a `teacher_cache` is for something
                else (see `NamedCaches`).
        """
        for planned in self.plan:
            if planned.is_finished:
                StageResult.read(planned.folder)
        self._check(0, of_outlines=True)

    def _check(self, first: int, *, of_outlines: bool = False) -> None:
        """Check the stages from the number `first` on. `of_outlines` tells that teachers may still be trained."""
        modules = self._kept_modules(self.plan[first - 1].folder) if first else None
        caches = NamedCaches(of_outlines=of_outlines)
        declared = {planned.stage.unfolded_from or planned.stage.name: planned for planned in self.plan[first:]}
        for name, planned in declared.items():
            # No teacher output is cached, no repository is made on the Hub, and the process keeps its settings.
            live = self.assistant if planned.stage.teacher == "assistant" else self.teacher
            quiet = {"push_to_hub": False, "full_determinism": False}
            if live and not issubclass(planned.stage.trainer, ContrastiveTrainer):  # whose arguments refuse a cache
                quiet["teacher_cache"] = None
            stage = replace(planned.stage, arguments={**planned.stage.arguments, **quiet}, cache_teacher=False)
            student = copy.deepcopy(self.student)
            self._freeze(student, stage)
            weights = _weights_of(live)
            learning = [weight for weight in weights if weight.requires_grad]
            try:
                check_sharded_teacher(planned.stage, self.arguments_of(planned.stage), in_memory=bool(weights))
                with TemporaryDirectory() as folder:
                    there = replace(planned, stage=stage, folder=Path(folder))
                    trainer = self._trainer(there, self._with_modules(student, modules))
                    cache = self.arguments_of(planned.stage).get("teacher_cache")
                    if cache and planned.stage.cache_teacher:
                        raise ValueError(
                            f"it has both cache_teacher and teacher_cache={cache!r}. Set cache_teacher to false, or "
                            "leave teacher_cache out."
                        )
                    if cache:
                        caches.add(name, cache, trainer, in_chunks=planned.rows < len(self.data[planned.stage.data]))
            except (TypeError, ValueError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"The stage {name!r}: {error}") from error
            finally:  # a trainer freezes its teacher, which may still be trained
                for weight in learning:
                    weight.requires_grad_(True)
            made = exported_student(trainer)
            modules = made.modules if isinstance(made, SentenceEncoder) else None
            del trainer, made
            release_memory()

    def _run_stage(self, index: int, before: Path | None) -> None:
        planned = self.plan[index]
        student = self._student_after(before)
        adapted = self._freeze(student, planned.stage)
        trainer = self._trainer(planned, self._with_modules(student, self._kept_modules(before)))
        checkpoint = last_complete_checkpoint(planned.folder)
        if trainer.is_world_process_zero():
            print(f"\nStage {index + 1} of {len(self.plan)}: {planned.stage.name}.", flush=True)
            for other in planned.abandoned:
                print(
                    f"Not used: {other}. It has checkpoints of this stage with other settings or data. Remove it, "
                    "unless you will return to them."
                )
        trainer.train(resume_from_checkpoint=checkpoint)
        if adapted is not None:
            adapted.merge_and_unload()
        trainer.save_model()
        trainer.save_heads(planned.folder)
        exported = self._with_modules(student, self._kept_modules(planned.folder))
        with callable_in_parts(trainer.model):
            scores = dict(self.score(exported)) if self.score else {}
        trainer.accelerator.wait_for_everyone()  # a rank may still be reading the best checkpoint
        if trainer.is_world_process_zero():
            name, folder, state, facts = planned.stage.name, planned.folder, trainer.state, asdict(trainer.card_facts())
            StageResult(name, folder, scores, state.global_step, state.log_history, facts).write(planned.key)
            self._tidy_up(index)
        trainer.accelerator.wait_for_everyone()

    def _tidy_up(self, index: int) -> None:
        """Remove a finished stage's checkpoints, and cached teacher outputs that no later stage needs.

        Several processes may do so at once.
        """
        remove_checkpoints(self.plan[index].folder)
        still_read = {planned.stage.cache_name for planned in self.plan[index + 1 :]}
        for cache in self._caches.glob("*"):
            if cache.name not in still_read:
                remove_folder(cache)
        with suppress(OSError):  # it isn't there, or not empty
            self._caches.rmdir()

    def _trainer(self, planned: PlannedStage, student: PreTrainedModel | SentenceEncoder) -> DistillTrainer:
        stage = planned.stage
        settings = {"report_to": [], **self.arguments_of(stage)}
        if settings.get("attention_weight"):
            model_of(student).set_attn_implementation("eager")
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
        # Early stopping reads the scores, so it comes after them.
        score = [ScoreExported(self.score)] if self.score else []
        stop = [EarlyStoppingCallback(stage.patience)] if stage.patience else []
        trainer = stage.trainer(
            student,
            teacher,
            args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            callbacks=[*self.callbacks, *score, *stop],
            processing_class=self.processing_class,
            teacher_processing_class=teacher_tokenizer,
        )
        for callback in score:
            callback.trainer = trainer
        return trainer

    def _freeze(self, student: PreTrainedModel, stage: Stage) -> PeftModel | None:
        """Freeze parameters for a stage. Returns the student with adapters, if there are any."""
        if stage.lora is not None:
            set_seed(self.arguments_of(stage).get("seed", 42))
            return add_lora(student, stage.lora)
        train_only(student, stage.trainable, freeze_words=self.freeze_words)
        return None

    def _student_after(self, folder: Path | None) -> PreTrainedModel:
        """The student after a stage, always loaded from its files, since a resumed run does so, too."""
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

    def _kept_modules(self, folder: Path | None) -> SentenceModules | None:
        """The modules of a finished stage that kept its projector (`keep_projector`); None for other stages."""
        modules = read_sentence_modules(folder, self.student.config) if folder else None
        return modules if modules and modules.has_dense else None

    def _with_modules(
        self, student: PreTrainedModel, modules: SentenceModules | None
    ) -> PreTrainedModel | SentenceEncoder:
        """The student, with the projector that the previous stage kept: it is trained on."""
        return student if modules is None else SentenceEncoder(student, self.processing_class, modules)

    @property
    def _caches(self) -> Path:
        return Path(self.folder) / "_teacher"


def _weights_of(teacher: TeacherSource | Sequence[TeacherSource] | None) -> list[nn.Parameter]:
    """The weights of teachers in memory."""
    teachers = teacher if isinstance(teacher, list | tuple) else [teacher]
    heads = [each.modules.head for each in teachers if isinstance(each, SentenceEncoder)]
    modules = [each for each in (*map(model_of, teachers), *heads) if isinstance(each, nn.Module)]
    return [weight for module in modules for weight in module.parameters()]


def _students_alone(rows: datasets.Dataset) -> datasets.Dataset:
    """Rows without the columns for a teacher with another tokenizer."""
    theirs = [name for name in rows.column_names if name.startswith("teacher_") or name == "student_positions"]
    return rows.remove_columns(theirs)
