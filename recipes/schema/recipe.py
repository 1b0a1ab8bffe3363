"""A recipe: the content of a YAML file that describes a distillation from start to finish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from ...trainers.stages import Stage
from .data import MaskedEvaluation, MaskedFiles, SentenceEvaluation, SentenceFiles, TaskFiles
from .models import SHRINK_SETTINGS, Assistant, Student, Teacher

Data = TypeVar("Data")
Evaluation = TypeVar("Evaluation")


@dataclass(frozen=True)
class Recipe(Generic[Data, Evaluation]):
    """A distillation from start to finish. The kind of student is defined by `data`: `task: tagging`,
    `task: classification`, `task: masked_lm`, or no task for sentence embeddings.

    Attributes:
        teacher: the teacher.
        assistant: a model between teacher and student (sentence embeddings only); none by default.
        student: how the student is made from the teacher, or from the assistant if there is one.
        data: training data.
        arguments: training arguments of all stages, including those of a teacher or an assistant. A stage's own
            arguments take precedence.
        stages: the student's stages, in order.
        evaluation: evaluation data and metrics.
        output_dir: folder for all output. It is refused if it has files that the student's would replace, such as
            README.md or config.json, but that retort doesn't recognise as its own.
        push_to_hub: hub id to which the finished student is pushed; by default it is not pushed.
        downloads: id of a Hub dataset -> its size and license. If data or evaluation has the dataset, they are printed
            before anything is loaded.
    """

    teacher: Teacher
    student: Student
    data: Data
    stages: Sequence[Stage]
    evaluation: Evaluation
    output_dir: str
    assistant: Assistant | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    push_to_hub: str | None = None
    downloads: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        if self.push_to_hub in ("True", "true", "False", "false"):
            raise ValueError(f"push_to_hub: expected a hub id such as owner/name, but found {self.push_to_hub!r}.")
        self._check_models()
        self._check_student()
        self._check_stages()

    # --- Changes ------------------------------------------------------------------------------------------------------

    def with_teacher(self, model: str) -> Recipe:
        """The recipe with another teacher (hub id or folder) and another `output_dir`."""
        folder = f"{self.output_dir}-{Path(model).resolve().name}"
        return replace(self, teacher=Teacher(model, fine_tuning=self.teacher.fine_tuning), output_dir=folder)

    def arguments_of(self, stage: Stage) -> dict[str, Any]:
        """The training arguments of a stage: those of all stages, updated with its own."""
        return {**self.arguments, **stage.arguments}

    def with_seed(self, seed: int) -> Recipe:
        """The recipe with another seed for the student's stages. Those of teacher and assistant keep theirs."""
        return replace(self, stages=tuple(replace(s, arguments={**s.arguments, "seed": seed}) for s in self.stages))

    def scaled(self, scale: float) -> Recipe:
        """The recipe with `scale` times the epochs for every stage of the student."""

        def longer(stage: Stage) -> Stage:
            epochs = self.arguments_of(stage)["num_train_epochs"] * scale
            return replace(stage, arguments={**stage.arguments, "num_train_epochs": epochs})

        return replace(self, stages=tuple(map(longer, self.stages)))

    # --- Contradictions -----------------------------------------------------------------------------------------------

    def stages_by_section(self) -> dict[str, Sequence[Stage]]:
        """Section of the recipe -> its stages."""
        fine_tuning = self.teacher.fine_tuning
        return {
            "teacher.fine_tuning": [fine_tuning] if fine_tuning else [],
            "teacher.stages": self.teacher.stages,
            "assistant.stages": self.assistant.stages if self.assistant else (),
            "stages": self.stages,
        }

    def _check_models(self) -> None:
        if self.assistant and not isinstance(self.data, SentenceFiles):
            raise ValueError("assistant: only recipes for sentence embeddings support an assistant.")
        if self.teacher.new and not isinstance(self.data, MaskedFiles):
            raise ValueError("teacher: only masked language models (data: task: masked_lm) support a new teacher.")
        if self.teacher.vectors and not isinstance(self.data, SentenceFiles):
            raise ValueError("teacher.vectors: only sentence embeddings (data without a task) support vectors.")
        if self.teacher.fine_tuning and not isinstance(self.data, TaskFiles):
            raise ValueError("teacher.fine_tuning: only taggers and classifiers (data: task) support fine_tuning.")
        by_files = isinstance(self.evaluation, SentenceEvaluation | MaskedEvaluation)
        if self.data.corpus and by_files and self.evaluation != type(self.evaluation)():
            raise ValueError("evaluation: with data.corpus, models are evaluated on the corpus. Leave it out.")

    def _check_student(self) -> None:
        ways = self.data.student_ways
        if self.student.queries_only and self.teacher.vectors:
            raise ValueError(
                "student.queries_only: documents are encoded by the teacher, but it is given by vectors. Set "
                "teacher.model, and cache_teacher in the stages, or leave out queries_only."
            )
        first = self.student if self.assistant is None else self.assistant.student
        if self.teacher.vectors and first and not first.model:
            whose = "student" if self.assistant is None else "assistant.student"
            raise ValueError(
                f"{whose}: vectors have no layers to make a student from. Set model (hub id or folder of a model to "
                "start from), optionally with layers."
            )
        if self.assistant is None:
            self.student.check(*ways)
            return
        self.student.check(SHRINK_SETTINGS)
        if self.assistant.student:
            self.assistant.student.check(*ways, whose="assistant.student")
            if self.assistant.student.static:
                raise ValueError("assistant.student.static: no student can be made from token vectors. Give it layers.")

    def _check_stages(self) -> None:
        for section, stages in self.stages_by_section().items():
            names = [stage.name for stage in stages]
            if twice := {name for name in names if names.count(name) > 1}:
                raise ValueError(f"{section}: several stages are called {', '.join(sorted(twice))}.")
            for stage in stages:
                if stage.data not in self.data.rows:
                    raise ValueError(
                        f"{section}.{stage.name}.data: a stage for {self.data.kind} has data: "
                        f"{', '.join(self.data.rows)}, but not {stage.data} ({self.data.rows_needed})."
                    )
                short = [name for name in ("truncate_dims", "quantization_aware") if self.arguments_of(stage).get(name)]
                if short and not isinstance(self.data, SentenceFiles):
                    raise ValueError(
                        f"{section}.{stage.name}: {short[0]} is for sentence embeddings (data without a task). Leave "
                        "it out."
                    )
                caches = {
                    "cache_teacher": stage.cache_teacher,
                    "teacher_cache": self.arguments_of(stage).get("teacher_cache"),
                }
                if self.teacher.vectors and any(caches.values()) and stage.teacher == "teacher":
                    name = next(name for name, value in caches.items() if value)
                    raise ValueError(f"{section}.{stage.name}.{name}: vectors are on disk already. Leave it out.")
                if all(caches.values()):
                    raise ValueError(
                        f"{section}.{stage.name}: it has both cache_teacher and teacher_cache. Set cache_teacher: "
                        "false, or leave teacher_cache out."
                    )
                if stage.teacher == "assistant" and not self.assistant:
                    raise ValueError(f"{section}.{stage.name}.teacher: the recipe has no section assistant.")
