"""What recipes for tagging and classification are made of: teachers with heads, students of all kinds, and scores."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Features, Value, concatenate_datasets
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase, set_seed

from ...data.tasks import Task, are_spans
from ...data.tokenization import stride_within, tokenize
from ...evaluation.report import Quality, Rows, bootstrapped
from ...evaluation.tasks import (
    Classifier,
    EntityScore,
    EntityScores,
    ScoredWords,
    Tagger,
    entity_counts,
    entity_scores,
    expected_calibration_error,
)
from ...modeling import AUTO_CLASSES, add_projector
from ...modeling.losses import IGNORED_LABEL
from ...modeling.shrinking import bilstm_student, project_embeddings, shrink
from ..schema import Student, given

# Draws of test rows for intervals; a metric of `evaluate` takes some 10 ms.
_RESAMPLES = 200

HEADS = {"tagging": "ForTokenClassification", "classification": "ForSequenceClassification"}


@dataclass(frozen=True)
class Judgement:
    """What a model is worth.

    Attributes:
        quality: scores as a report prints them, the most important first, and perhaps their intervals.
        entities: of a tagger, scores by type and language, and what it takes for what.
    """

    quality: Quality
    entities: EntityScores | None = None

    @property
    def selected_by(self) -> str:
        """The metric by which a student is selected: F1 of all entities (a language may have few), or the first."""
        return "F1" if "F1" in self.quality.scores else next(iter(self.quality.scores))


@dataclass(frozen=True)
class TaskData:
    """A task, tokenised for a model, and how that is judged.

    Attributes:
        task: its rows and labels.
        tokenizer: the model's.
        max_length: tokens that a model reads at once: longer rows to tag become windows, longer texts are cut.
        metric_name: of classification: a GLUE task, whose metric is taken, or the folder of an `evaluate` module.
        teacher_tokenizer: its teacher's, where it differs.
        stride: of tagging: tokens that neighbouring windows share; None for a quarter of their text.
    """

    task: Task
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    metric_name: str | None = None
    teacher_tokenizer: PreTrainedTokenizerBase | None = None
    stride: int | None = None

    def rows(self, name: str) -> Dataset:
        """The tokenised rows of a split; of `transfer`, which have no labels; or of both, as `train+transfer`.

        Raises:
            SystemExit: both, of a regression. Its labels are numbers, and no number says that there is none.
        """
        if "+" not in name:
            return self._rows(name)
        if not self.task.labels:
            raise SystemExit(f"The data {name} is for tasks with classes. Of a regression, train on each by itself.")
        parts = [self._rows(part) for part in name.split("+")]
        features = parts[0].features
        return concatenate_datasets([_with_labels(part, features) for part in parts])

    def _rows(self, split: str) -> Dataset:
        rows, labels = self.task.transfer, None
        if split != "transfer":
            rows, labels = self.task.splits[split], "labels"
        columns = {"text": "text", "text_pair": "text_pair" if self.task.pairs else None}
        stride = None
        if self.task.kind == "tagging":
            # A transfer text is cut unless it is told what its windows share.
            stride = stride_within(
                self.stride, self.max_length, *filter(None, (self.tokenizer, self.teacher_tokenizer))
            )
            columns = {"words": "words"} if labels else columns
        return tokenize(
            rows,
            self.tokenizer,
            **columns,
            labels=labels,
            teacher_tokenizer=self.teacher_tokenizer,
            align=True,
            max_length=self.max_length,
            stride=stride,
        )

    def predictor(self, model: Any) -> Tagger | Classifier:
        """What predicts with a model, or with an ONNX file in its place."""
        if self.task.kind == "tagging":
            return Tagger(model, self.tokenizer, max_length=self.max_length, stride=self.stride)
        return Classifier(model, self.tokenizer, max_length=self.max_length)

    def dev_score(self, model: PreTrainedModel) -> dict[str, float]:
        """The number by which a student is selected."""
        judged = self.judge(model, "dev")
        return {"score": judged.quality.scores[judged.selected_by]}

    def judge(self, model: Any, split: str = "test", *, intervals: bool = False) -> Judgement:
        """All that is to be said of a model's predictions; with intervals of the scores where they are asked for."""
        resamples = _RESAMPLES if intervals else 0
        if self.task.kind == "classification":
            return Judgement(bootstrapped(self._classified(model, split), resamples))
        rows, names = self.task.splits[split], self.task.labels
        gold = [[names[label] for label in labels] for labels in rows["labels"]]
        found = self.predictor(model)(rows["words"])
        tags = [[word.tag for word in words] for words in found]
        words = ScoredWords.of(gold, found)
        if not are_spans(names):  # of parts of speech and the like, every word is scored by itself
            return Judgement(bootstrapped(lambda drawn: self._words(gold, tags, words, drawn), resamples))
        entities = entity_scores(gold, tags, rows["language"])
        counts = entity_counts(gold, tags)
        languages = np.asarray(rows["language"]) if len(entities.by_language) > 1 else None

        def scores(draw: Rows) -> dict[str, float]:
            drawn = draw(len(gold))
            of_language = (
                {}
                if languages is None
                else {f"F1 {name}": _f1(counts[drawn[languages[drawn] == name]]) for name in entities.by_language}
            )
            mean = {"F1, mean of languages": fmean(of_language.values())} if of_language else {}
            return mean | {"F1": _f1(counts[drawn])} | of_language | {"ECE": words.calibration_error(drawn)}

        return Judgement(bootstrapped(scores, resamples), entities)

    def _words(self, gold: list[list[str]], tags: list[list[str]], words: ScoredWords, draw: Rows) -> dict[str, float]:
        numbers, drawn = {name: index for index, name in enumerate(self.task.labels)}, draw(len(gold))
        predictions, references = ([numbers[tag] for row in drawn for tag in side[row]] for side in (tags, gold))
        scores = self.metric.compute(predictions=predictions, references=references)
        return scores | {"ECE": words.calibration_error(drawn)}

    def _classified(self, model: Any, split: str) -> Callable[[Rows], dict[str, float]]:
        """The scores of some rows' classes, or of their numbers, as a function of the rows."""
        rows = self.task.splits[split]
        found = self.predictor(model)(rows["text"], rows["text_pair"] if self.task.pairs else None)
        confidences, classes = (each.numpy() for each in found.max(-1))
        predictions, gold = classes if self.task.labels else confidences, np.asarray(rows["labels"])
        languages = np.asarray(rows["language"])
        several = sorted(set(languages)) if len(set(languages)) > 1 else ()

        def scores(draw: Rows) -> dict[str, float]:
            drawn = draw(len(gold))
            scores = self.metric.compute(predictions=predictions[drawn], references=gold[drawn])
            first = next(iter(scores))
            for language in several:
                own = drawn[languages[drawn] == language]
                found_there = self.metric.compute(predictions=predictions[own], references=gold[own])
                scores[f"{first} {language}"] = found_there[first]
            if self.task.labels:
                right = predictions[drawn] == gold[drawn]
                scores["ECE"] = expected_calibration_error(confidences[drawn], right).error
            return scores

        return scores

    @cached_property
    def metric(self) -> Any:
        """Of classification: that of a GLUE task, of an `evaluate` module, or accuracy, macro F1 and MCC."""
        import evaluate

        from ...evaluation.metrics import MEASURES, Classification, Glue

        if self.metric_name in MEASURES or not self.task.labels:
            return Glue(self.metric_name or "stsb", keep_in_memory=True)
        return evaluate.load(self.metric_name) if self.metric_name else Classification(keep_in_memory=True)


def _f1(counts: np.ndarray) -> float:
    """F1 of some rows' entities (see `entity_counts`); NaN where there is no gold one."""
    correct, predicted, gold = counts.sum(0).tolist()
    return EntityScore.of_counts(correct, predicted, gold).f1 if gold else math.nan


def _with_labels(rows: Dataset, features: Features) -> Dataset:
    """The rows; if they have no labels, with a column that says so for each row, or each of its tokens."""
    if "labels" in rows.column_names:
        return rows
    of_tokens = not isinstance(features["labels"], Value)

    def none(lengths: list[int]) -> dict[str, list]:
        return {"labels": [[IGNORED_LABEL] * length if of_tokens else IGNORED_LABEL for length in lengths]}

    return rows.map(none, input_columns=["length"], batched=True, features=features, desc="Joining")


def head_labels(source: str | Path, kind: str) -> tuple[str, ...] | None:
    """The labels of a teacher that has a head for this kind of task; None if it has none."""
    config = AutoConfig.from_pretrained(source)
    if not any(name.endswith(HEADS[kind]) for name in config.architectures or ()):
        return None
    return tuple(config.id2label[index] for index in range(config.num_labels))


def with_head(source: str | Path, task: Task, seed: int = 42) -> PreTrainedModel:
    """A model with a head for a task, as it was saved or, where it wasn't or for other classes, new."""
    set_seed(seed)
    names = dict(enumerate(task.labels)) or {0: "LABEL_0"}
    return AUTO_CLASSES[HEADS[task.kind]].from_pretrained(
        source,
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        id2label=names,
        label2id={name: index for index, name in names.items()},
    )


def build_student(
    wanted: Student,
    teacher: PreTrainedModel,
    task: Task,
    seed: int = 42,
    **tokenizers: PreTrainedTokenizerBase,
) -> PreTrainedModel:
    """A student for a teacher with a head.

    Args:
        wanted: what the recipe says. A `model` with an `embedding_init` is given the teacher's vocabulary and word
            embeddings, narrowed.
        teacher: fine-tuned.
        task: what it does.
        seed: of what starts at random.
        tokenizers: `tokenizer` and `teacher_tokenizer`, where they differ.
    """
    if wanted.bilstm:
        student = bilstm_student(teacher, **given(wanted.bilstm), seed=seed)
    elif wanted.model:
        student = with_head(wanted.model, task, seed)
        if wanted.embedding_init:
            adopt_words(student, teacher, wanted.embedding_init)
    else:
        student = shrink(teacher, **wanted.shrink_settings, **tokenizers)
    set_seed(seed)
    if wanted.projector:
        add_projector(student, teacher.config.hidden_size)
    if wanted.freeze_embeddings:
        student.get_input_embeddings().weight.requires_grad_(False)
    return student


@torch.no_grad()
def adopt_words(student: PreTrainedModel, teacher: PreTrainedModel, embedding_init: str) -> None:
    """Give a student the teacher's vocabulary, with the teacher's word embeddings brought to the student's width."""
    words = teacher.get_input_embeddings().weight
    width = student.get_input_embeddings().embedding_dim
    student.resize_token_embeddings(len(words), mean_resizing=False)
    student.config.pad_token_id = teacher.config.pad_token_id
    projected = words if width == words.shape[1] else project_embeddings(words, width, embedding_init)
    student.get_input_embeddings().weight.copy_(projected)
