"""Recipes for masked language models: an optional training of the teacher, and a student with its own vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, DatasetDict
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertConfig, PreTrainedModel, PreTrainedTokenizerBase

from ...data.readers import docstring_corpus, passages, read_texts
from ...data.tokenization import tokenize_spans
from ...data.tokenizers import count_tokens
from ...evaluation.report import ModelRow, Quality, Report, Role, Rows, bootstrapped, build_report, require_drawing
from ...evaluation.tasks import MaskedModel
from ...modeling.shrinking import shrink
from ...trainers.stages import Stage, StagedRun, StageResult, best_stage
from ..schema import MaskedEvaluation, MaskedFiles
from ..student_recipe import Parent, StudentRecipe, rows_of_stages
from ..tokenizers import student_tokenizer

HEAD_SIZE = 64


@dataclass(frozen=True)
class MaskedText:
    """Training, development and test texts of masked language models. They don't overlap.

    Attributes:
        files: training files.
        measures: development and test files.
    """

    files: MaskedFiles
    measures: MaskedEvaluation

    @cached_property
    def test(self) -> Dataset | None:
        if self.files.corpus:
            return self._docstrings["test"]
        return read_texts(self.measures.test_files) if self.measures.test_files else None

    @cached_property
    def dev(self) -> Dataset | None:
        if self.files.corpus:
            return self._docstrings["dev"]
        files = self.measures.dev_files
        return read_texts(files, exclude=_texts(self.test)) if files else None

    @cached_property
    def train(self) -> Dataset:
        if self.files.corpus:
            return passages(self._docstrings["train"], source="module")
        return read_texts(self.files.train_files, exclude=_texts(self.test) + _texts(self.dev))

    @cached_property
    def _docstrings(self) -> DatasetDict:
        return docstring_corpus().sentences

    @property
    def names(self) -> str:
        """Short description of the training texts."""
        named = ", ".join(Path(file).name for file in self.files.train_files)
        return "passages from the docstrings of Python's standard library" if self.files.corpus else named


@dataclass(frozen=True)
class MaskedRecipe(StudentRecipe):
    """A recipe for masked language models."""

    def prepare_process(self) -> None:
        if self.recipe.data.corpus or self.recipe.evaluation.test_files:
            require_drawing()

    @cached_property
    def text(self) -> MaskedText:
        """The texts for training and evaluation."""
        return MaskedText(self.recipe.data, self.recipe.evaluation)

    # --- The teacher --------------------------------------------------------------------------------------------------

    @cached_property
    def teacher_tokenizer(self) -> PreTrainedTokenizerBase:
        """The teacher's tokenizer."""
        made = self.recipe.teacher.new
        return AutoTokenizer.from_pretrained(made.tokenizer_source if made else self.recipe.teacher.source)

    def new_teacher(self) -> PreTrainedModel:
        """The new teacher with random weights."""
        teacher = self.recipe.teacher
        torch.manual_seed(teacher.stages[0].arguments.get("seed", 42))
        width, tokenizer = teacher.new.hidden_size, self.teacher_tokenizer
        config = BertConfig(
            vocab_size=len(tokenizer),
            num_hidden_layers=teacher.new.layers,
            hidden_size=width,
            intermediate_size=teacher.new.intermediate_size or 4 * width,
            num_attention_heads=teacher.new.num_attention_heads or max(1, width // HEAD_SIZE),
            pad_token_id=tokenizer.pad_token_id,
        )
        return AutoModelForMaskedLM.from_config(config)

    def parent_run(self) -> StagedRun | None:
        if self.recipe.teacher.new is None:
            return None
        return self._run("teacher", self.recipe.teacher.stages, self.new_teacher(), self.teacher_tokenizer)

    # --- The student --------------------------------------------------------------------------------------------------

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The student's tokenizer: the teacher's, a given one, or a new one."""
        wanted = self.recipe.student.tokenizer
        return student_tokenizer(
            wanted, self.teacher_tokenizer, lambda: self.text.train, self.recipe.output_dir, save=not self.dry_run
        )

    def student(self, teacher: PreTrainedModel) -> PreTrainedModel:
        """The student before its first stage."""
        ours, theirs = self.tokenizer, self.teacher_tokenizer
        settings = self.recipe.student.shrink_settings
        if self.recipe.student.weigh_pieces:
            settings["piece_counts"] = count_tokens(theirs, self.text.train)
        return shrink(teacher, tokenizer=ours, teacher_tokenizer=theirs, **settings).eval()

    def staged_run(self, parent: Parent) -> StagedRun:
        student, tokenizers = self.student(masked_lm(parent)), (self.tokenizer, self.teacher_tokenizer)
        return self._run("stages", self.recipe.stages, student, *tokenizers, teacher=parent)

    def _run(
        self,
        folder: str,
        stages: Sequence[Stage],
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        teachers: PreTrainedTokenizerBase | None = None,
        teacher: Parent | None = None,
    ) -> StagedRun:
        def tokenized(texts: Dataset) -> Dataset:
            return tokenize_spans(texts, tokenizer, teacher_tokenizer=teachers, max_length=self.recipe.data.max_length)

        return self._staged_run(
            folder,
            stages,
            model,
            teacher,
            data=rows_of_stages(stages, {"train": lambda: tokenized(self.text.train)}),
            eval_dataset=self.text.dev and tokenized(self.text.dev),
            processing_class=tokenizer,
            teacher_processing_class=teachers,
        )

    # --- Runs ---------------------------------------------------------------------------------------------------------

    @property
    def introduction(self) -> str:
        sizes = f"{len(self.tokenizer):,} of {len(self.teacher_tokenizer):,} tokens"
        return f"Teacher: {self.recipe.teacher.title}. {len(self.text.train):,} texts, {sizes}."

    def report(self, parent: Parent, untrained: PreTrainedModel, results: Sequence[StageResult]) -> Report | None:
        if not self.text.test:
            return None
        print("\nMeasuring quality, size and speed ...", flush=True)
        best = best_stage(results)
        theirs, ours = self.teacher_tokenizer, self.tokenizer
        models = {
            self.recipe.teacher.title.rsplit("/", 1)[-1]: (Role.TEACHER, self.as_masked_model(parent, theirs)),
            "student, untrained": (Role.UNTRAINED, self.as_masked_model(untrained, ours)),
            "student": (Role.STUDENT, self.as_masked_model(best.folder, ours)),
        }
        return build_report(
            [ModelRow.of(name, role, model.model, self._quality(model)) for name, (role, model) in models.items()],
            {name: model.embed for name, (_, model) in models.items()},
            self.text.test["text"][:],
            best.log_history,
            measured=f"Masked words of {len(self.text.test):,} texts, the same for all models: bits per character, and "
            "the geometric mean of the probabilities of characters.",
            timed="the encoder without its head, float32",
            test_set=f"{len(self.text.test):,} texts",
        )

    def _quality(self, model: MaskedModel) -> Quality:
        """A model's scores on the masked words of the test texts."""
        bits, characters = model.costs(self.text.test)

        def scores(rows: Rows) -> dict[str, float]:
            drawn = rows(len(bits))
            cost = float(bits[drawn].sum() / characters[drawn].sum())
            return {"probability of a hidden character": 2**-cost, "bits per hidden character": cost}

        return bootstrapped(scores)

    @property
    def tests(self) -> Mapping[str, Dataset]:
        return {"test": self.text.test} if self.text.test else {}

    @property
    def card_facts(self) -> Mapping[str, Any]:
        return {"data": {self.text.names: len(self.text.train)}}

    def how_to_use(self) -> str:
        return (
            "from transformers import pipeline\n"
            f'pipeline("fill-mask", model="{self.recipe.output_dir}")'
            f'("A retort is a {self.tokenizer.mask_token} to distil in.")'
        )

    def as_masked_model(self, model: Parent, tokenizer: PreTrainedTokenizerBase) -> MaskedModel:
        """A model with its tokenizer."""
        return MaskedModel(masked_lm(model), tokenizer, self.recipe.data.max_length)


def masked_lm(source: Parent) -> PreTrainedModel:
    """Load a masked language model, unless it is a model already."""
    if isinstance(source, PreTrainedModel):
        return source
    return AutoModelForMaskedLM.from_pretrained(source, dtype=torch.float32).eval()


def _texts(texts: Dataset | None) -> list[str]:
    return [] if texts is None else texts["text"][:]
