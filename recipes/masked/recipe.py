"""A recipe for masked language models: a teacher, trained first if need be, and a student with its own vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertConfig, PreTrainedModel, PreTrainedTokenizerBase

from ...data.readers import read_texts
from ...data.tokenization import tokenize_spans
from ...data.tokenizers import count_tokens
from ...evaluation.tasks import MaskedModel
from ...modeling.shrinking import shrink
from ...trainers.stages import Stage, StagedRun
from ..own_tokenizer import own_tokenizer
from ..recipe import OF_LAYERS, Recipe, check_student

HEAD_SIZE = 64


def new_bert(
    tokenizer: PreTrainedTokenizerBase,
    *,
    layers: int = 6,
    hidden_size: int = 256,
    intermediate_size: int | None = None,
    num_attention_heads: int | None = None,
) -> PreTrainedModel:
    """A BERT with weights drawn by chance; unless told otherwise, four times as wide inside, with heads of 64."""
    config = BertConfig(
        vocab_size=len(tokenizer),
        num_hidden_layers=layers,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size or 4 * hidden_size,
        num_attention_heads=num_attention_heads or max(1, hidden_size // HEAD_SIZE),
        pad_token_id=tokenizer.pad_token_id,
    )
    return AutoModelForMaskedLM.from_config(config)


# What `data` says to choose this kind of recipe.
MASKED = "masked_lm"


@dataclass(frozen=True)
class MaskedText:
    """What masked language models learn from and are judged by.

    Attributes:
        train_files: texts, as `read_texts` takes them.
        max_length: tokens of a row; longer texts make several.
        dev_files: texts whose losses tell which checkpoint is best, where a stage asks.
        test_files: texts whose hidden words are to be guessed at the end. None of the three is in another.
    """

    train_files: Sequence[str]
    max_length: int = 128
    dev_files: Sequence[str] = ()
    test_files: Sequence[str] = ()

    @cached_property
    def test(self) -> Dataset | None:
        return read_texts(self.test_files) if self.test_files else None

    @cached_property
    def dev(self) -> Dataset | None:
        return read_texts(self.dev_files, exclude=_texts(self.test)) if self.dev_files else None

    @cached_property
    def train(self) -> Dataset:
        return read_texts(self.train_files, exclude=_texts(self.test) + _texts(self.dev))


@dataclass(frozen=True)
class MaskedRecipe:
    """A recipe whose `data` has the task masked_lm."""

    recipe: Recipe

    def __post_init__(self):
        check_student(self.recipe.student, OF_LAYERS | {"tokenizer", "weigh_pieces"})

    @cached_property
    def text(self) -> MaskedText:
        """What is learnt from and judged by.

        Raises:
            SystemExit: settings that it doesn't have.
        """
        given = {name: value for name, value in self.recipe.data.items() if name != "task"} | self.recipe.evaluation
        known = {each.name for each in fields(MaskedText)}
        if "train_files" not in given or not given.keys() <= known:
            raise SystemExit(
                "A recipe for masked language models has data: task, train_files and max_length; evaluation: dev_files "
                f"and test_files. Here are {', '.join(given)}."
            )
        return MaskedText(**given)

    # --- The teacher --------------------------------------------------------------------------------------------------

    @cached_property
    def teacher_tokenizer(self) -> PreTrainedTokenizerBase:
        """The teacher's."""
        made = self.recipe.new_teacher
        return AutoTokenizer.from_pretrained(made.model["tokenizer"] if made else self.recipe.teacher)

    def new_teacher(self) -> PreTrainedModel:
        """A teacher with weights drawn by chance."""
        settings = {name: value for name, value in self.recipe.new_teacher.model.items() if name != "tokenizer"}
        torch.manual_seed(self.recipe.new_teacher.stages[0].arguments.get("seed", 42))
        return new_bert(self.teacher_tokenizer, **settings)

    def teacher_run(self) -> StagedRun | None:
        """The stages of a teacher that is trained first."""
        if self.recipe.new_teacher is None:
            return None
        stages = self.recipe.new_teacher.stages
        return self._run(stages, self.new_teacher(), "teacher", processing_class=self.teacher_tokenizer)

    # --- The student --------------------------------------------------------------------------------------------------

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The student's: its own, if the recipe says how to make it."""
        wanted = self.recipe.student.get("tokenizer")
        folder = Path(self.recipe.output_dir)
        theirs = self.teacher_tokenizer
        return theirs if wanted is None else own_tokenizer(wanted, theirs, self.text.train, folder)

    def student(self, teacher: PreTrainedModel) -> PreTrainedModel:
        """The student before its first stage."""
        ours, theirs = self.tokenizer, self.teacher_tokenizer
        settings = {name: value for name, value in self.recipe.student.items() if name != "tokenizer"}
        if settings.pop("weigh_pieces", False):
            settings["piece_counts"] = count_tokens(theirs, self.text.train)
        return shrink(teacher, tokenizer=ours, teacher_tokenizer=theirs, **settings).eval()

    def staged_run(self, teacher: str | Path | PreTrainedModel) -> StagedRun:
        """The student's stages. `teacher` is the finished one; or any of its shape, to look at the plan."""
        model = teacher if isinstance(teacher, PreTrainedModel) else masked_lm(teacher)
        return self._run(
            self.recipe.stages,
            self.student(model),
            "stages",
            teacher=teacher,
            processing_class=self.tokenizer,
            teacher_processing_class=self.teacher_tokenizer,
        )

    def _run(
        self,
        stages: Sequence[Stage],
        model: PreTrainedModel,
        folder: str,
        *,
        processing_class: PreTrainedTokenizerBase,
        **teaching: Any,
    ) -> StagedRun:
        tokenizers = processing_class, teaching.get("teacher_processing_class")
        return StagedRun(
            stages,
            model,
            folder=Path(self.recipe.output_dir) / folder,
            data=self._rows(stages, *tokenizers),
            eval_dataset=self.text.dev and self._tokenized(self.text.dev, *tokenizers),
            arguments=self.recipe.arguments,
            processing_class=processing_class,
            **teaching,
        )

    def _rows(self, stages: Sequence[Stage], *tokenizers: PreTrainedTokenizerBase | None) -> Mapping[str, Dataset]:
        if unknown := {stage.data for stage in stages} - {"train"}:
            raise SystemExit(f"A stage for masked language models has data: train, but not {', '.join(unknown)}.")
        return {"train": self._tokenized(self.text.train, *tokenizers)}

    def _tokenized(
        self, texts: Dataset, tokenizer: PreTrainedTokenizerBase, teachers: PreTrainedTokenizerBase | None
    ) -> Dataset:
        return tokenize_spans(texts, tokenizer, teacher_tokenizer=teachers, max_length=self.text.max_length)

    # --- Judging ------------------------------------------------------------------------------------------------------

    def as_masked_model(self, model: PreTrainedModel | str | Path, tokenizer: PreTrainedTokenizerBase) -> MaskedModel:
        """A model with its tokenizer."""
        model = model if isinstance(model, PreTrainedModel) else masked_lm(model)
        return MaskedModel(model, tokenizer, self.text.max_length)


def masked_lm(source: str | Path) -> PreTrainedModel:
    """Load a masked language model."""
    return AutoModelForMaskedLM.from_pretrained(source, dtype=torch.float32).eval()


def _texts(texts: Dataset | None) -> list[str]:
    return [] if texts is None else texts["text"][:]
