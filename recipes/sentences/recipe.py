"""A recipe for sentence embeddings: stages on texts, groups of them or translations, and a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ...data.tokenization import tokenize, tokenize_groups
from ...evaluation.report import Report, Role, require_drawing
from ...evaluation.sentences import load_sentence_teacher, side_by_side, sts_of_each
from ...modeling.encoding import SentenceEncoder, SentenceModules
from ...modeling.shrinking import shrink
from ...trainers.stages import Stage, StagedRun, StageResult, best_stage
from ..schema import Student
from ..student_recipe import Parent, StudentRecipe, rows_of_stages
from ..tokenizers import student_tokenizer
from .corpora import Docstrings, Files


@dataclass(frozen=True)
class SentenceRecipe(StudentRecipe):
    """A recipe for sentence embeddings: its `data` names text and no task."""

    parent_title = "Stages of the assistant"

    @cached_property
    def corpus(self) -> Docstrings | Files:
        """The text to train on and to judge by."""
        return Docstrings() if self.recipe.data.corpus else Files(self.recipe.data, self.recipe.evaluation)

    def prepare_process(self) -> None:
        if self.corpus.has_tests:
            require_drawing()

    # --- Models -------------------------------------------------------------------------------------------------------

    @cached_property
    def teacher_model(self) -> SentenceEncoder:
        """The teacher, with what makes embeddings of its outputs."""
        arguments, max_length = self.recipe.arguments, self.recipe.data.max_length
        pooler, students = arguments.get("teacher_pooler"), arguments.get("pooler", "mean")
        return load_sentence_teacher(self.recipe.teacher.source, max_length, pooler, otherwise=students)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The student's; an assistant has the same."""
        if model := self._made_of_teacher.model:
            return AutoTokenizer.from_pretrained(model)
        wanted, theirs = self._made_of_teacher.tokenizer, self.teacher_model.tokenizer
        return student_tokenizer(wanted, theirs, lambda: self.corpus.texts, self.recipe.output_dir)

    @property
    def _made_of_teacher(self) -> Student:
        """How the first model beside the teacher is made: the assistant, or the student if there is none."""
        assistant = self.recipe.assistant
        if assistant is None:
            return self.recipe.student
        return assistant.student or Student(model=assistant.model)

    def start(self) -> PreTrainedModel:
        """The first model beside the teacher before its first stage: of the teacher, or a checkpoint (`model`)."""
        student = self._made_of_teacher
        if student.model:
            model = AutoModel.from_pretrained(student.model, dtype=torch.float32).eval()
            if student.freeze_embeddings:
                model.get_input_embeddings().weight.requires_grad_(False)
            return model
        own = {"tokenizer": self.tokenizer, "teacher_tokenizer": self.teacher_model.tokenizer}
        return shrink(self.teacher_model.model, **student.shrink_settings, **own if student.tokenizer else {}).eval()

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
        return f"Teacher: {self.recipe.teacher.title}. {self.corpus.introduction}"

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
            model = load_sentence_teacher(parent, self.recipe.data.max_length, self._arguments["pooler"]).model
        student = shrink(model, **self.recipe.student.shrink_settings).eval()
        return self._run("stages", self.recipe.stages, student, assistant=parent)

    def _run(
        self, folder: str, stages: Sequence[Stage], student: PreTrainedModel, assistant: Parent | None = None
    ) -> StagedRun:
        return self._staged_run(
            folder,
            stages,
            student,
            self.recipe.teacher.source,
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
        return rows_of_stages(stages, readers)

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
        models[self.recipe.teacher.title.rsplit("/", 1)[-1]] = Role.TEACHER, self.teacher_model
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
        folder = self.recipe.output_dir
        code = ", trust_remote_code=True" if hasattr(AutoConfig.from_pretrained(folder), "auto_map") else ""
        return (
            "from sentence_transformers import SentenceTransformer\n"
            f'embeddings = SentenceTransformer("{folder}"{code}).encode(["A vessel to distil in.", "A glass retort."])'
        )
