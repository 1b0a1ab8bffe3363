"""Teachers, students and evaluation of the recipes for tagging and classification."""

import math
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
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

# Number of bootstrap resamples for intervals; a metric of `evaluate` takes some 10 ms.
_RESAMPLES = 200

HEADS = {"tagging": "ForTokenClassification", "classification": "ForSequenceClassification"}


@dataclass(frozen=True)
class Judgement:
    """The evaluation of a model.

    Attributes:
        quality: scores for a report, the most important first, optionally with intervals.
        entities: for a tagger of entities, scores by type and language, and the confusions.
    """

    quality: Quality
    entities: EntityScores | None = None

    @property
    def selected_by(self) -> str:
        """The metric by which a student is selected: F1 of all entities (a language may have few), or the first."""
        return "F1" if "F1" in self.quality.scores else next(iter(self.quality.scores))


@dataclass(frozen=True)
class TaskData:
    """A task with tokenisation and evaluation.

    Attributes:
        task: rows and labels.
        tokenizer: the model's tokenizer.
        max_length: maximum number of tokens of an input. Longer rows are split into windows for tagging; longer texts
            are truncated for classification.
        metric_name: for classification: a GLUE task, for its metric, or the folder of an `evaluate` module.
        teacher_tokenizer: the teacher's tokenizer, if it differs.
        stride: for tagging, number of tokens that neighbouring windows share; None for a quarter of their text.
    """

    task: Task
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    metric_name: str | None = None
    teacher_tokenizer: PreTrainedTokenizerBase | None = None
    stride: int | None = None

    def rows(self, name: str) -> Dataset:
        """The tokenised rows of a split, of `transfer` (without labels), or of both (`train+transfer`).

        Raises:
            SystemExit: `train+transfer` for a regression, where no number can mean "no label".
        """
        if "+" not in name:
            return self._rows(name)
        if not self.task.labels:
            raise SystemExit(f"The data {name} is for tasks with classes. For a regression, use train or transfer.")
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
            # Without a stride, `tokenize` would truncate transfer texts.
            tokenizers = filter(None, (self.tokenizer, self.teacher_tokenizer))
            stride = stride_within(self.stride, self.max_length, *tokenizers)
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
        """A predictor for a model or an ONNX model."""
        if self.task.kind == "tagging":
            return Tagger(model, self.tokenizer, max_length=self.max_length, stride=self.stride)
        return Classifier(model, self.tokenizer, max_length=self.max_length)

    def dev_score(self, model: PreTrainedModel) -> dict[str, float]:
        """The score by which a student is selected."""
        judged = self.judge(model, "dev")
        return {"score": judged.quality.scores[judged.selected_by]}

    def judge(self, model: Any, split: str = "test", *, intervals: bool = False) -> Judgement:
        """Evaluate a model on a split, optionally with intervals of the scores."""
        resamples = _RESAMPLES if intervals else 0
        if self.task.kind == "classification":
            return Judgement(bootstrapped(self._classified(model, split), resamples))
        rows, names = self.task.splits[split], self.task.labels
        gold = [[names[label] for label in labels] for labels in rows["labels"]]
        found = self.predictor(model)(rows["words"])
        tags = [[word.tag for word in words] for words in found]
        words = ScoredWords.of(gold, found)
        if not are_spans(names):  # tags such as parts of speech are scored word by word
            return Judgement(bootstrapped(lambda drawn: self._words(gold, tags, words, drawn), resamples))
        entities = entity_scores(gold, tags, rows["language"])
        counts = entity_counts(gold, tags)
        languages = np.asarray(rows["language"])
        several = list(entities.by_language) if len(entities.by_language) > 1 else ()

        def scores(draw: Rows) -> dict[str, float]:
            drawn = draw(len(gold))
            of_language = {f"F1 {name}": _f1(counts[drawn[languages[drawn] == name]]) for name in several}
            mean = {"F1, mean of languages": fmean(of_language.values())} if of_language else {}
            return mean | {"F1": _f1(counts[drawn])} | of_language | {"ECE": words.calibration_error(drawn)}

        return Judgement(bootstrapped(scores, resamples), entities)

    def _words(self, gold: list[list[str]], tags: list[list[str]], words: ScoredWords, draw: Rows) -> dict[str, float]:
        numbers, drawn = {name: index for index, name in enumerate(self.task.labels)}, draw(len(gold))
        predictions, references = ([numbers[tag] for row in drawn for tag in side[row]] for side in (tags, gold))
        scores = self.metric.compute(predictions=predictions, references=references)
        return scores | {"ECE": words.calibration_error(drawn)}

    def _classified(self, model: Any, split: str) -> Callable[[Rows], dict[str, float]]:
        """A function that scores the predicted classes or numbers of some rows."""
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
                with suppress(ValueError):  # the numbers of a language may all be the same
                    found_there = self.metric.compute(predictions=predictions[own], references=gold[own])
                    scores[f"{first} {language}"] = found_there[first]
            if self.task.labels:
                right = predictions[drawn] == gold[drawn]
                scores["ECE"] = expected_calibration_error(confidences[drawn], right)
            return scores

        return scores

    @cached_property
    def metric(self) -> Any:
        """The metric for classification: of a GLUE task, of an `evaluate` module, or accuracy, macro F1 and MCC."""
        import evaluate

        from ...evaluation.metrics import MEASURES, Classification, Glue

        if self.metric_name in MEASURES or not self.task.labels:
            return Glue(self.metric_name or "stsb", keep_in_memory=True)
        return evaluate.load(self.metric_name) if self.metric_name else Classification(keep_in_memory=True)


def _f1(counts: np.ndarray) -> float:
    """F1 of the entities of some rows (see `entity_counts`); NaN if there are no gold entities."""
    correct, predicted, gold = counts.sum(0).tolist()
    return EntityScore.of_counts(correct, predicted, gold).f1 if gold else math.nan


def _with_labels(rows: Dataset, features: Features) -> Dataset:
    """The rows, with a column of -100 for each row or token if they have no labels."""
    if "labels" in rows.column_names:
        return rows
    of_tokens = not isinstance(features["labels"], Value)

    def none(lengths: list[int]) -> dict[str, list]:
        return {"labels": [[IGNORED_LABEL] * length if of_tokens else IGNORED_LABEL for length in lengths]}

    return rows.map(none, input_columns=["length"], batched=True, features=features, desc="Joining")


def head_labels(source: str | Path, kind: str) -> tuple[str, ...] | None:
    """The labels of a teacher's head for this kind of task; None if it has no such head."""
    config = AutoConfig.from_pretrained(source)
    if not any(name.endswith(HEADS[kind]) for name in config.architectures or ()):
        return None
    return tuple(config.id2label[index] for index in range(config.num_labels))


def with_head(source: str | Path, task: Task, seed: int = 42) -> PreTrainedModel:
    """Load a model with a head for a task. The head is new if the model has none, or one for other classes."""
    set_seed(seed)
    names = dict(enumerate(task.labels)) or {0: "LABEL_0"}
    return AUTO_CLASSES[HEADS[task.kind]].from_pretrained(
        source,
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        id2label=names,
        label2id={name: index for index, name in names.items()},
        problem_type=None,  # that of a former head may be another
    )


def build_student(
    wanted: Student,
    teacher: PreTrainedModel,
    task: Task,
    seed: int = 42,
    **tokenizers: PreTrainedTokenizerBase,
) -> PreTrainedModel:
    """A student for a teacher with a head. New weights depend on the seed.

    Args:
        wanted: the student section of the recipe. A `model` with an `embedding_init` gets the teacher's vocabulary and
            its word embeddings, projected to the student's width.
        tokenizers: `tokenizer` and `teacher_tokenizer`, if they differ.
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
    """Replace a student's word embeddings with the teacher's, projected to the student's width.

    Raises:
        SystemExit: the student counts positions from a padding id (RoBERTa) below the teacher's, or the teacher has no
            padding id.
    """
    words = teacher.get_input_embeddings().weight
    width = student.get_input_embeddings().embedding_dim
    student.resize_token_embeddings(len(words), mean_resizing=False)
    _adopt_padding(student, teacher.config.pad_token_id)
    projected = words if width == words.shape[1] else project_embeddings(words, width, embedding_init)
    student.get_input_embeddings().weight.copy_(projected)


def _adopt_padding(student: PreTrainedModel, pad: int | None) -> None:
    """Make `pad` the padding id, as if the student had been loaded with it. Each position keeps its embedding.

    RoBERTa and its relatives count positions from the padding id + 1, so their tables of positions lose rows.
    """
    student.config.pad_token_id = pad
    config = deepcopy(student.config)
    config.max_position_embeddings = config.vocab_size  # room for any padding id
    with torch.device("meta"):
        loaded = dict(type(student)(config).named_modules())
    for name, module in student.named_modules():
        if not hasattr(module, "padding_idx"):
            continue
        before, module.padding_idx = module.padding_idx, loaded[name].padding_idx
        table = getattr(module, "position_embeddings", None)
        if before == module.padding_idx or table is None:
            continue
        if pad is None or pad > before:
            raise SystemExit(
                f"student.embedding_init: the student counts positions from its padding id, {before}, but the "
                f"teacher's is {pad}. Use another student.model, or leave out embedding_init, so that the student "
                "keeps its own words."
            )
        table.weight = torch.nn.Parameter(table.weight[before - pad :].clone())
        table.num_embeddings = student.config.max_position_embeddings = len(table.weight)
