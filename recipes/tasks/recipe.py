"""Recipes for tagging and classification: fine-tuning of the teacher, stages of the student, and a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedModel

from ...data.tasks import Task, code_words, library_parts, read_task
from ...evaluation.cost import Footprint
from ...evaluation.report import ModelRow, Report, Role, build_report, require_drawing
from ...evaluation.tasks import EntityScores
from ...modeling.onnx import FLOAT32_FILE, INT8_FILE, OnnxModel, onnx_library, quantize_int8
from ...trainers.saving import save_onnx
from ...trainers.stages import StagedRun, StageResult, best_stage, bound_kernel_cache
from ..student_recipe import Parent, StudentRecipe
from ..tokenizers import student_tokenizer
from .students import TaskData, build_student, head_labels, with_head


@dataclass(frozen=True)
class TaskRecipe(StudentRecipe):
    """A recipe for tagging or classification."""

    @cached_property
    def task(self) -> Task:
        """The task. Unless the recipe lists the labels, their order is that of a teacher that has all of them."""
        data = self.recipe.data
        if data.corpus:
            return code_words() if data.task == "tagging" else library_parts()
        others = ("task", "corpus", "max_length", "stride")
        settings = {each.name: getattr(data, each.name) for each in fields(data) if each.name not in others}
        task = read_task(data.task, **settings)
        if not task.labels or data.labels or self._head in (None, task.labels):
            return task
        if not set(task.labels) <= set(self._head):
            return task
        return read_task(data.task, **settings | {"labels": self._head})

    @cached_property
    def _head(self) -> tuple[str, ...] | None:
        return head_labels(self.recipe.teacher.source, self._kind)

    @cached_property
    def teacher_data(self) -> TaskData:
        """The task for the teacher."""
        data, tokenizer = self.recipe.data, AutoTokenizer.from_pretrained(self.recipe.teacher.source)
        return TaskData(self.task, tokenizer, data.max_length, self.recipe.evaluation.metric, stride=data.stride)

    @cached_property
    def data(self) -> TaskData:
        """The task for the student, which may have another tokenizer."""
        wanted, theirs = self.recipe.student.tokenizer, self.teacher_data.tokenizer
        if wanted is None:
            return self.teacher_data
        folder = self.recipe.output_dir
        ours = student_tokenizer(wanted, theirs, lambda: _texts(self.task), folder, save=not self.dry_run)
        return replace(self.teacher_data, tokenizer=ours, teacher_tokenizer=theirs)

    @property
    def needs_fine_tuning(self) -> bool:
        """Whether the teacher has no head for these labels yet.

        Raises:
            SystemExit: the teacher has no such head, and the recipe has no `fine_tuning`.
        """
        if self._head is not None and _mean_the_same(self._head, self.task.labels):
            return False
        if self.recipe.teacher.fine_tuning is None:
            has = f"a head for {', '.join(self._head)}" if self._head else f"no head for {self._kind}"
            if not self.task.labels:
                raise SystemExit(
                    f"{self.recipe.teacher.title} has {has}, but the labels are numbers, for which a head has one "
                    "output. Add teacher.fine_tuning to the recipe, or use a teacher that was trained for numbers."
                )
            raise SystemExit(
                f"{self.recipe.teacher.title} has {has}, but the labels are {', '.join(self.task.labels)}, in this "
                "order. Add teacher.fine_tuning to the recipe, use a teacher that was trained for these labels, or "
                "list them in its order (data: labels)."
            )
        return True

    @property
    def _kind(self) -> str:
        return self.recipe.data.task

    # --- Runs ---------------------------------------------------------------------------------------------------------

    def prepare_process(self) -> None:
        require_drawing()
        if any(stage.chunk_rows for stage in self.recipe.stages):
            bound_kernel_cache()
        for library in ("onnx", "onnxruntime") if self.recipe.evaluation.onnx else ():
            onnx_library(library)

    @property
    def introduction(self) -> str:
        rows = ", ".join(f"{len(split):,} {name}" for name, split in self.task.splits.items())
        labels = len(self.task.labels) or 1
        return f"{self._kind}: {labels} labels; rows: {rows}, {len(self.task.transfer):,} transfer"

    @property
    def parent_title(self) -> str:
        other = f", whose head is for other labels ({', '.join(self._head)})" if self._head else ""
        return f"Fine-tuning of {self.recipe.teacher.title}{other}"

    def parent_run(self) -> StagedRun | None:
        """The run that gives the teacher its head; None if it has one."""
        if not self.needs_fine_tuning:
            return None
        stage = self.recipe.teacher.fine_tuning
        return self._staged_run(
            "teacher",
            [replace(stage, arguments={"label_weight": 1.0} | dict(stage.arguments))],
            with_head(self.recipe.teacher.source, self.task),
            data={"train": self.teacher_data.rows("train")},
            eval_dataset=self.teacher_data.rows("dev"),
            processing_class=self.teacher_data.tokenizer,
            score=self.teacher_data.dev_score,
        )

    def finished_parent(self, results: Sequence[StageResult]) -> Path:
        """The folder of the last stage, regardless of scores."""
        return results[-1].folder

    def student(self, teacher: PreTrainedModel) -> PreTrainedModel:
        """The student before its first stage."""
        ours, theirs = self.data.tokenizer, self.data.teacher_tokenizer
        tokenizers = {} if theirs is None else {"tokenizer": ours, "teacher_tokenizer": theirs}
        seed = self.recipe.stages[0].arguments.get("seed", 42)
        return build_student(self.recipe.student, teacher, self.task, seed, **tokenizers)

    def staged_run(self, parent: Parent) -> StagedRun:
        teacher = parent if isinstance(parent, PreTrainedModel) else with_head(parent, self.task)
        return self._staged_run(
            "stages",
            self.recipe.stages,
            self.student(teacher),
            parent,
            data={name: self.data.rows(name) for name in {stage.data for stage in self.recipe.stages}},
            eval_dataset=self.data.rows("dev"),
            processing_class=self.data.tokenizer,
            teacher_processing_class=self.data.teacher_tokenizer,
            score=self.data.dev_score,
        )

    # --- The finished student -----------------------------------------------------------------------------------------

    def report(self, parent: Parent, untrained: PreTrainedModel, results: Sequence[StageResult]) -> Report:
        print("\nMeasuring ...\n", flush=True)
        report, entities = task_report(self, parent, untrained, best_stage(results))
        if entities:
            print(entities.table())
        return report

    @property
    def tests(self) -> Mapping[str, Dataset]:
        split = judged_split(self.task)
        return {split: self.task.splits[split]}

    @property
    def report_files(self) -> Sequence[str]:
        exported = [f"onnx/{name}" for name in (FLOAT32_FILE, INT8_FILE)] if self.recipe.evaluation.onnx else []
        return [*super().report_files, *exported]

    def how_to_use(self) -> str:
        return f"Predict with it: retort predict --model {self.recipe.output_dir} --input texts.txt"


def _texts(task: Task) -> Dataset:
    """The distinct training texts."""
    train, columns = task.splits["train"], ("text", "text_pair") if task.pairs else ("text",)
    if task.kind == "tagging":
        labelled = map(" ".join, train["words"])
    else:
        labelled = chain.from_iterable(train[name] for name in columns)
    transfer = chain.from_iterable(task.transfer[name] for name in columns)
    return Dataset.from_dict({"text": list(dict.fromkeys([*labelled, *transfer]))})


def _mean_the_same(head: tuple[str, ...], labels: tuple[str, ...]) -> bool:
    """Whether a head's classes are these labels, or have default names (LABEL_0) and the same number.

    Without labels (regression), whether it has one output, of any name.
    """
    if not labels:
        return len(head) == 1
    return head in (labels, tuple(f"LABEL_{index}" for index in range(len(labels))))


# Number of test rows for the speed measurement.
TIMED_ROWS = 256


def task_report(
    work: TaskRecipe, teacher: str, untrained: PreTrainedModel, best: StageResult
) -> tuple[Report, EntityScores | None]:
    """Evaluate teacher, untrained student and the student of the best stage: a report, and a tagger's entity scores."""
    split = judged_split(work.task)
    name = work.recipe.teacher.title.rsplit("/", 1)[-1]
    student = type(untrained).from_pretrained(best.folder)
    students = {"student, untrained": (Role.UNTRAINED, untrained), "student": (Role.STUDENT, student)}
    if work.recipe.evaluation.onnx:
        students |= exported(student, work.data, Path(work.recipe.output_dir) / "onnx")
    title = f"{name} (teacher)" if name in students else name
    models = {title: (Role.TEACHER, with_head(teacher, work.task)), **students}
    data = {name: work.teacher_data if role == Role.TEACHER else work.data for name, (role, _) in models.items()}
    judged = {name: data[name].judge(model, split, intervals=True) for name, (_, model) in models.items()}
    metric = judged["student"].selected_by
    exports = {name: model for name, (role, model) in models.items() if role == Role.EXPORTED}
    sizes = {name: Footprint.of_file(model.path, student) for name, model in exports.items()}
    rows = [
        ModelRow.of(name, role, model, judged[name].quality, sizes.get(name)) for name, (role, model) in models.items()
    ]
    report = build_report(
        rows,
        {name: on_rows(data[name], model) for name, (_, model) in models.items()},
        first_rows(work.task, split),
        best.log_history,
        measured=f"Scores: {len(work.task.splits[split]):,} rows of the {split} split.",
        test_set=f"the {split} split, {len(work.task.splits[split]):,} rows",
        dev_names={"score": metric},
        timed="from words to predictions, float32 unless stated otherwise",
    )
    return report, judged["student"].entities


def judged_split(task: Task) -> str:
    """The split for the final evaluation: test, or dev if there is no test split."""
    return "test" if "test" in task.splits else "dev"


def exported(student: PreTrainedModel, data: TaskData, folder: Path) -> dict[str, tuple[Role, OnnxModel]]:
    """Export the student to ONNX, in float32 and int8."""
    save_onnx(student, data.tokenizer, folder, beside_model=False)
    quantize_int8(folder)
    files = {"student, ONNX": FLOAT32_FILE, "student, ONNX int8": INT8_FILE}
    return {name: (Role.EXPORTED, OnnxModel(folder, file)) for name, file in files.items()}


def on_rows(data: TaskData, model: Any) -> Callable[[list], object]:
    """A function that predicts for rows as `first_rows` returns them."""
    predict = data.predictor(model)
    return predict if data.task.kind == "tagging" else lambda rows: predict(*zip(*rows, strict=True))


def first_rows(task: Task, split: str) -> list[Sequence[str]]:
    """Some rows of a split: the words of each, or its one or two texts."""
    rows = task.splits[split][:TIMED_ROWS]
    if task.kind == "tagging":
        return rows["words"]
    return list(zip(*(rows[name] for name in ("text", "text_pair") if name in rows), strict=True))
