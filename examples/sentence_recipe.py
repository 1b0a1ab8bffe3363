"""A recipe for sentence embeddings: stages on texts or on groups of them, and a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import torch
from datasets import Dataset
from recipe import Recipe
from sentence_corpora import Corpus, Docstrings, Files
from sentence_flags import sts
from sentence_students import SentenceModel, load_sentence_teacher, side_by_side
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from retort import StagedRun, shrink, tokenize
from retort.collators import tokenize_groups
from retort.evaluation import Report, Role


@dataclass(frozen=True)
class SentenceRecipe:
    """A recipe whose `data` names a corpus of sentences."""

    recipe: Recipe

    @cached_property
    def corpus(self) -> Corpus:
        """What is learnt from and judged by.

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
                "train_files, group_files or exclude_files, in evaluation sts_test (name: file) and perhaps sts_dev. "
                f"Here are {', '.join(given) or self.recipe.evaluation}."
            )
        return Files(**given)

    @cached_property
    def teacher_model(self) -> SentenceModel:
        """The teacher, with what makes embeddings of its outputs."""
        pooler = self.recipe.arguments.get("teacher_pooler")
        return load_sentence_teacher(self.recipe.teacher, self.recipe.data["max_length"], pooler)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The student's."""
        model = self.recipe.student.get("model")
        return AutoTokenizer.from_pretrained(model) if model else self.teacher_model.tokenizer

    @property
    def introduction(self) -> str:
        """What is about to happen, for the terminal."""
        return f"Teacher: {self.recipe.teacher_name}. {self.corpus.introduction}"

    def student(self) -> PreTrainedModel:
        """The student before its first stage: layers of the teacher, or a checkpoint (`model`)."""
        settings = {name: value for name, value in self.recipe.student.items() if name != "freeze_embeddings"}
        if "model" in settings:
            return AutoModel.from_pretrained(settings["model"], dtype=torch.float32).eval()
        return shrink(self.teacher_model.model, **settings).eval()

    def as_sentence_model(self, student: PreTrainedModel) -> SentenceModel:
        """A student, with what makes embeddings of its outputs."""
        pooling = self.teacher_model.pooling
        pooler = self.recipe.arguments.get("pooler", pooling.pooler)
        return SentenceModel(student, self.tokenizer, replace(pooling, pooler=pooler))

    def staged_run(self) -> StagedRun:
        """The student's stages."""
        dev, pooler = self.corpus.dev, self.teacher_model.pooling.pooler
        return StagedRun(
            self.recipe.stages,
            self.student(),
            self.recipe.teacher,
            folder=Path(self.recipe.output_dir) / "stages",
            data=self._rows(),
            eval_dataset=self._tokenized(dev.rename_column("sentence1", "text")) if dev else None,
            processing_class=self.tokenizer,
            teacher_processing_class=self.teacher_model.tokenizer,
            arguments={"pooler": pooler, "teacher_pooler": pooler} | dict(self.recipe.arguments),
            score=(lambda student: {"sts": sts(self.as_sentence_model(student), dev)}) if dev else None,
            freeze_words=self.recipe.student.get("freeze_embeddings", False),
        )

    def _rows(self) -> Mapping[str, Dataset]:
        max_length = self.teacher_model.pooling.max_length
        makers = {
            "train": lambda: self._tokenized(self.corpus.texts),
            "groups": lambda: tokenize_groups(self.corpus.groups, self.tokenizer, max_length=max_length),
        }
        wanted = {stage.data for stage in self.recipe.stages}
        if unknown := wanted - makers.keys():
            raise SystemExit(f"A stage for sentences has data: {' or '.join(makers)}, but not {', '.join(unknown)}.")
        return {name: makers[name]() for name in wanted}

    def _tokenized(self, texts: Dataset) -> Dataset:
        max_length = self.teacher_model.pooling.max_length
        return tokenize(texts, self.tokenizer, teacher_tokenizer=self.teacher_model.tokenizer, max_length=max_length)

    def report(self, untrained: PreTrainedModel, student: PreTrainedModel, log_history: list[dict]) -> Report:
        """Set teacher, untrained and trained student side by side on text that no one was trained on."""
        return side_by_side(
            {
                self.recipe.teacher_name.rsplit("/", 1)[-1]: (Role.TEACHER, self.teacher_model),
                "student, untrained": (Role.UNTRAINED, self.as_sentence_model(untrained)),
                "student": (Role.STUDENT, self.as_sentence_model(student)),
            },
            self.corpus.quality,
            self.corpus.sample,
            log_history,
            measured=self.corpus.measured,
        )
