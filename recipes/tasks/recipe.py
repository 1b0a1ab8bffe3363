"""A recipe for tagging or classification: the teacher is fine-tuned, the student goes through its stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path

from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedModel

from ...data.tasks import Task, read_task
from ...trainers.stages import StagedRun
from ..own_tokenizer import own_tokenizer
from ..recipe import OF_LAYERS, Recipe, check_student
from .students import TaskData, build_student, head_labels, with_head


@dataclass(frozen=True)
class TaskRecipe:
    """A recipe whose `data` names a task."""

    recipe: Recipe

    def __post_init__(self):
        any_may = {"tokenizer", "freeze_embeddings", "projector"}
        check_student(
            self.recipe.student, OF_LAYERS | any_may, {"model", "embedding_init"} | any_may, {"bilstm"} | any_may
        )
        if unknown := self.recipe.evaluation.keys() - {"metric", "onnx"}:
            raise SystemExit(f"The evaluation of a task has metric and onnx, but not {', '.join(sorted(unknown))}.")

    @cached_property
    def task(self) -> Task:
        """The rows. Unless the recipe lists the labels, a teacher that knows them all says in which order."""
        settings = {name: value for name, value in self.recipe.data.items() if name not in ("task", "max_length")}
        task = read_task(self._kind, **settings)
        if self._head in (None, task.labels) or "labels" in settings or not set(task.labels) <= set(self._head):
            return task
        return read_task(self._kind, **settings, labels=self._head)

    @cached_property
    def _head(self) -> tuple[str, ...] | None:
        return head_labels(self.recipe.teacher, self._kind)

    @cached_property
    def teacher_data(self) -> TaskData:
        """The same for the teacher."""
        tokenizer = AutoTokenizer.from_pretrained(self.recipe.teacher)
        return TaskData(
            self.task, tokenizer, self.recipe.data.get("max_length", 128), self.recipe.evaluation.get("metric")
        )

    @cached_property
    def data(self) -> TaskData:
        """The same for the student, which may have a tokenizer of its own."""
        wanted, theirs = self.recipe.student.get("tokenizer"), self.teacher_data.tokenizer
        if wanted is None:
            return self.teacher_data
        ours = own_tokenizer(wanted, theirs, _texts(self.task), Path(self.recipe.output_dir))
        return replace(self.teacher_data, tokenizer=ours, teacher_tokenizer=theirs)

    @property
    def needs_fine_tuning(self) -> bool:
        """Whether the teacher has no head for these labels yet.

        Raises:
            SystemExit: so it is, and the recipe doesn't say how to give it one.
        """
        if self._head is not None and _mean_the_same(self._head, self.task.labels):
            return False
        if self.recipe.fine_tuning is None:
            has = f"a head for {', '.join(self._head)}" if self._head else f"no head for {self._kind}"
            raise SystemExit(
                f"{self.recipe.teacher_name} has {has}, but the labels are {', '.join(self.task.labels)}, in this "
                "order. Give the recipe's teacher a section fine_tuning, name a teacher that was trained for these "
                "labels, or list them in its order (data: labels)."
            )
        return True

    @property
    def _kind(self) -> str:
        return self.recipe.data["task"]

    def fine_tuning(self) -> StagedRun | None:
        """The run that gives the teacher its head; None if it has one."""
        if not self.needs_fine_tuning:
            return None
        stage = self.recipe.fine_tuning
        return StagedRun(
            [replace(stage, arguments={"label_weight": 1.0} | dict(stage.arguments))],
            with_head(self.recipe.teacher, self.task),
            folder=Path(self.recipe.output_dir) / "teacher",
            data={"train": self.teacher_data.rows("train")},
            eval_dataset=self.teacher_data.rows("dev"),
            processing_class=self.teacher_data.tokenizer,
            arguments=self.recipe.arguments,
            score=self.teacher_data.dev_score,
        )

    def student(self, teacher: PreTrainedModel) -> PreTrainedModel:
        """The student before its first stage."""
        theirs = self.data.teacher_tokenizer
        tokenizers = (self.data.tokenizer, theirs) if theirs is not None else None
        seed = self.recipe.stages[0].arguments.get("seed", 42)
        return build_student(self.recipe.student, teacher, self.task, seed, tokenizers)

    def staged_run(self, teacher: str) -> StagedRun:
        """The student's stages. `teacher` is the fine-tuned one; or any of its shape, to look at the plan."""
        return StagedRun(
            self.recipe.stages,
            self.student(with_head(teacher, self.task)),
            teacher,
            folder=Path(self.recipe.output_dir) / "stages",
            data=self._rows(),
            eval_dataset=self.data.rows("dev"),
            processing_class=self.data.tokenizer,
            teacher_processing_class=self.data.teacher_tokenizer,
            arguments=self.recipe.arguments,
            score=self.data.dev_score,
        )

    def _rows(self) -> Mapping[str, Dataset]:
        return {name: self.data.rows(name) for name in {stage.data for stage in self.recipe.stages}}


def _texts(task: Task) -> Dataset:
    """All that a student learns from, each text once."""
    train, columns = task.splits["train"], ("text", "text_pair") if task.pairs else ("text",)
    if task.kind == "tagging":
        labelled = map(" ".join, train["words"])
    else:
        labelled = chain.from_iterable(train[name] for name in columns)
    transfer = chain.from_iterable(task.transfer[name] for name in columns)
    return Dataset.from_dict({"text": list(dict.fromkeys([*labelled, *transfer]))})


def _mean_the_same(head: tuple[str, ...], labels: tuple[str, ...]) -> bool:
    """Whether a head's classes are these labels; those that nobody named (LABEL_0) go by their number."""
    unnamed = tuple(f"LABEL_{index}" for index in range(len(labels) or 1))
    return head in (labels, unnamed)
