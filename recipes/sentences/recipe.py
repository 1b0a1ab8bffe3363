"""A recipe for sentence embeddings: stages on texts, groups of them or translations, and a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ...data.tokenization import tokenize, tokenize_groups
from ...evaluation.report import Report, Role
from ...evaluation.sentences import load_sentence_teacher, side_by_side, sts_of_each
from ...modeling.encoding import SentenceEncoder, SentenceModules
from ...modeling.shrinking import shrink
from ...trainers.stages import Stage, StagedRun, StageResult, best_stage
from ..recipe import SHRINK_SETTINGS, check_student
from ..student_recipe import Parent, StudentRecipe, rows_of_stages
from ..tokenizers import student_tokenizer
from .corpora import Docstrings, Files
from .flags import how_to_use


@dataclass(frozen=True)
class SentenceRecipe(StudentRecipe):
    """A recipe for sentence embeddings: its `data` names text and no task."""

    parent_title = "Stages of the assistant"

    def __post_init__(self):
        check_student(self._made_of_teacher, SHRINK_SETTINGS | {"tokenizer"}, {"model", "freeze_embeddings"})
        if self.recipe.assistant:
            check_student(self.recipe.student, SHRINK_SETTINGS)

    @cached_property
    def corpus(self) -> Docstrings | Files:
        """The text to train on and to judge by.

        Raises:
            SystemExit: settings that it doesn't have.
        """
        settings = {name: value for name, value in self.recipe.data.items() if name != "max_length"}
        if (settings, self.recipe.evaluation) == ({"corpus": "docstrings"}, "retrieval"):
            return Docstrings()
        evaluation = self.recipe.evaluation if isinstance(self.recipe.evaluation, dict) else {}
        known = {each.name for each in fields(Files)}
        given = settings | evaluation
        if "sts_test" not in given or not given.keys() <= known:
            raise SystemExit(
                "A recipe for sentences has data: {corpus: docstrings} with evaluation: retrieval, or files: in data "
                "train_files, group_files, parallel_files (max_rows, alpha) or exclude_files, in evaluation sts_test "
                f"(name: file) and perhaps sts_dev and bitext. Here are {', '.join(given) or self.recipe.evaluation}."
            )
        return Files(**given)

    # --- Models -------------------------------------------------------------------------------------------------------

    @cached_property
    def teacher_model(self) -> SentenceEncoder:
        """The teacher, with what makes embeddings of its outputs."""
        arguments, max_length = self.recipe.arguments, self.recipe.data["max_length"]
        pooler, students = arguments.get("teacher_pooler"), arguments.get("pooler", "mean")
        return load_sentence_teacher(self.recipe.teacher, max_length, pooler, otherwise=students)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The student's; an assistant has the same."""
        if model := self._made_of_teacher.get("model"):
            return AutoTokenizer.from_pretrained(model)
        wanted, theirs = self._made_of_teacher.get("tokenizer"), self.teacher_model.tokenizer
        return student_tokenizer(wanted, theirs, lambda: self.corpus.texts, self.recipe.output_dir)

    @property
    def _made_of_teacher(self) -> Mapping[str, Any]:
        """How the first model beside the teacher is made: the assistant, or the student if there is none."""
        assistant = self.recipe.assistant
        if assistant is None:
            return self.recipe.student
        return {"model": assistant.model} if assistant.model else assistant.student

    def start(self) -> PreTrainedModel:
        """The first model beside the teacher before its first stage: of the teacher, or a checkpoint (`model`)."""
        settings = self._made_of_teacher
        if "model" in settings:
            model = AutoModel.from_pretrained(settings["model"], dtype=torch.float32).eval()
            if settings.get("freeze_embeddings"):
                model.get_input_embeddings().weight.requires_grad_(False)
            return model
        own = {"tokenizer": self.tokenizer, "teacher_tokenizer": self.teacher_model.tokenizer}
        return _shrunk(self.teacher_model.model, settings, **own if "tokenizer" in settings else {})

    def as_sentence_model(self, model: PreTrainedModel | str | Path) -> SentenceEncoder:
        """A student or an assistant, with what makes embeddings of its outputs."""
        if not isinstance(model, PreTrainedModel):
            model = AutoModel.from_pretrained(model, dtype=torch.float32).eval()
        teacher = self.teacher_model.modules
        plain = SentenceModules.plain(self._arguments["pooler"], teacher.max_length, normalize=teacher.normalizes)
        return SentenceEncoder(model, self.tokenizer, plain)

    # --- Runs ---------------------------------------------------------------------------------------------------------

    @property
    def introduction(self) -> str:
        return f"Teacher: {self.recipe.teacher_name}. {self.corpus.introduction}"

    @property
    def parent(self) -> str | None:
        """The finished assistant; None if there is none, or if it is trained first."""
        return self.recipe.assistant and self.recipe.assistant.model

    def parent_run(self) -> StagedRun | None:
        assistant = self.recipe.assistant
        if assistant is None or assistant.model:
            return None
        return self._run("assistant", assistant.stages, self.start())

    def staged_run(self, parent: Parent | None = None) -> StagedRun:
        if parent is None:
            return self._run("stages", self.recipe.stages, self.start())
        model = parent
        if not isinstance(model, PreTrainedModel):
            model = load_sentence_teacher(parent, self.recipe.data["max_length"], self._arguments["pooler"]).model
        return self._run("stages", self.recipe.stages, _shrunk(model, self.recipe.student), assistant=parent)

    def _run(
        self, folder: str, stages: Sequence[Stage], student: PreTrainedModel, assistant: Parent | None = None
    ) -> StagedRun:
        return self._staged_run(
            folder,
            stages,
            student,
            self.recipe.teacher,
            data=self._rows(stages),
            assistant=assistant,
            eval_dataset=self._dev_rows(),
            processing_class=self.tokenizer,
            teacher_processing_class=self.teacher_model.tokenizer,
            arguments=self._arguments,
            score=self._score if self.corpus.dev else None,
        )

    @property
    def _arguments(self) -> Mapping[str, Any]:
        modes = self.teacher_model.modules.pooling.modes
        # No student has its vectors concatenated.
        same = {"pooler": modes[0], "teacher_pooler": modes[0]} if len(modes) == 1 else {"pooler": "mean"}
        return same | dict(self.recipe.arguments)

    def _score(self, student: PreTrainedModel) -> dict[str, float]:
        """The mean of all development sets, and each where there are several."""
        scores = sts_of_each(self.as_sentence_model(student), self.corpus.dev)
        several = {f"sts_{name}": score for name, score in scores.items()} if len(scores) > 1 else {}
        return {"sts": fmean(scores.values())} | several

    # --- Rows ---------------------------------------------------------------------------------------------------------

    def _rows(self, stages: Sequence[Stage]) -> Mapping[str, Dataset]:
        tokenizers = {"tokenizer": self.tokenizer, "max_length": self.teacher_model.max_length}
        their_tokenizer, prompt = self.teacher_model.tokenizer, self.teacher_model.modules.prompt()
        readers = {
            "train": lambda: self._tokenized(self.corpus.texts),
            "groups": lambda: tokenize_groups(self.corpus.groups, **tokenizers),
            "translations": lambda: tokenize_groups(
                self.corpus.translations, teacher_tokenizer=their_tokenizer, teacher_prompt=prompt, **tokenizers
            ),
        }
        return rows_of_stages(stages, readers, "sentences")

    def _dev_rows(self) -> Dataset | None:
        pairs = next(iter(self.corpus.dev.values()), None)
        return pairs and self._tokenized(pairs.rename_column("sentence1", "text"))

    def _tokenized(self, texts: Dataset) -> Dataset:
        teacher = self.teacher_model
        theirs = {"teacher_tokenizer": teacher.tokenizer, "teacher_prompt": teacher.modules.prompt()}
        return tokenize(texts, self.tokenizer, max_length=teacher.max_length, **theirs)

    # --- The finished student -----------------------------------------------------------------------------------------

    def report(
        self, parent: Parent | None, untrained: PreTrainedModel, results: Sequence[StageResult]
    ) -> Report | None:
        if not self.corpus.has_tests:
            return None
        print("\nMeasuring quality, size and speed ...", flush=True)
        best, models = best_stage(results), {}
        if parent is not None:  # with which the student is compared
            models["assistant"] = Role.TEACHER, self.as_sentence_model(parent)
        models[self.recipe.teacher_name.rsplit("/", 1)[-1]] = Role.TEACHER, self.teacher_model
        if parent is None:
            models["student, untrained"] = Role.UNTRAINED, self.as_sentence_model(untrained)
        else:
            if not self.parent:
                models["assistant, untrained"] = Role.UNTRAINED, self.as_sentence_model(self.start())
            for stage in results:
                if stage is not best:
                    models[f"after {stage.name}"] = Role.STUDENT, self.as_sentence_model(stage.folder)
        models["student"] = Role.STUDENT, self.as_sentence_model(best.folder)
        corpus = self.corpus
        return side_by_side(models, corpus.quality, corpus.sample, list(best.log_history), measured=corpus.measured)

    @property
    def card_facts(self) -> Mapping[str, Any]:
        return {"data": self.corpus.data}

    def how_to_use(self) -> str:
        return how_to_use(self.recipe.output_dir)


def _shrunk(parent: PreTrainedModel, settings: Mapping[str, Any], **tokenizers: Any) -> PreTrainedModel:
    chosen = {name: value for name, value in settings.items() if name in SHRINK_SETTINGS}
    return shrink(parent, **chosen, **tokenizers).eval()
