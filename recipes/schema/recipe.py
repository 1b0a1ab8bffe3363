"""A recipe: a distillation from start to finish, as a YAML file describes it."""

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
    """A distillation from start to finish. `data` says for which kind of student: `task: tagging`,
    `task: classification`, `task: masked_lm`, or no task for sentence embeddings.

    Attributes:
        teacher: who is distilled.
        assistant: the model between teacher and student (sentence embeddings only); none by default.
        student: how the student is made of the teacher, or of the assistant if there is one.
        data: what the student learns from.
        arguments: for the trainers of all stages, a teacher's or an assistant's included; a stage's own arguments win.
        stages: the student's stages, in order.
        evaluation: what the student is judged by; a file may leave the section out.
        output_dir: where everything is written.
        push_to_hub: hub id that the finished student is pushed to; by default it is not pushed.
        downloads: of the datasets of the Hub that data and evaluation name: id -> how large it is, and its licence,
            which is told before anything is loaded.
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
        self._check_models()
        self._check_student()
        self._check_stages()

    # --- Changes ------------------------------------------------------------------------------------------------------

    def with_teacher(self, model: str) -> Recipe:
        """Another teacher, a hub id or folder, whose student is written beside this one's."""
        folder = f"{self.output_dir}-{Path(model).resolve().name}"
        return replace(self, teacher=Teacher(model, fine_tuning=self.teacher.fine_tuning), output_dir=folder)

    def with_seed(self, seed: int) -> Recipe:
        """Another seed for every stage of the student; the teacher's fine-tuning and the assistant keep theirs."""
        return replace(self, stages=tuple(replace(s, arguments={**s.arguments, "seed": seed}) for s in self.stages))

    def scaled(self, scale: float) -> Recipe:
        """`scale` times the epochs for every stage of the student."""

        def longer(stage: Stage) -> Stage:
            epochs = stage.arguments["num_train_epochs"] * scale
            return replace(stage, arguments={**stage.arguments, "num_train_epochs": epochs})

        return replace(self, stages=tuple(map(longer, self.stages)))

    # --- Contradictions -----------------------------------------------------------------------------------------------

    def stages_by_section(self) -> dict[str, Sequence[Stage]]:
        """All stages, by where the recipe says them."""
        fine_tuning = self.teacher.fine_tuning
        return {
            "teacher.fine_tuning": [fine_tuning] if fine_tuning else [],
            "teacher.stages": self.teacher.stages,
            "assistant.stages": self.assistant.stages if self.assistant else (),
            "stages": self.stages,
        }

    def _check_models(self) -> None:
        if self.assistant and not isinstance(self.data, SentenceFiles):
            raise ValueError("assistant: only recipes for sentences have an assistant.")
        if self.teacher.new and not isinstance(self.data, MaskedFiles):
            raise ValueError("teacher: only masked language models (data: task: masked_lm) have a new teacher.")
        if self.teacher.vectors and not isinstance(self.data, SentenceFiles):
            raise ValueError("teacher.vectors: only sentence embeddings (data without a task) are learnt from vectors.")
        if self.teacher.fine_tuning and not isinstance(self.data, TaskFiles):
            raise ValueError("teacher.fine_tuning: only teachers of taggers and classifiers (data: task) have one.")
        by_files = isinstance(self.evaluation, SentenceEvaluation | MaskedEvaluation)
        if self.data.corpus and by_files and self.evaluation != type(self.evaluation)():
            raise ValueError("evaluation: with data.corpus, models are judged by the corpus. Leave it out.")

    def _check_student(self) -> None:
        ways = self.data.student_ways
        first = self.student if self.assistant is None else self.assistant.student
        if self.teacher.vectors and first and not first.model:
            whose = "student" if self.assistant is None else "assistant.student"
            raise ValueError(
                f"{whose}: a teacher that is nothing but vectors has no layers to make a student of. Name a model to "
                "start from: model (hub id or folder), whole or with layers."
            )
        if self.assistant is None:
            self.student.check(*ways)
            return
        self.student.check(SHRINK_SETTINGS)
        if self.assistant.student:
            self.assistant.student.check(*ways, whose="assistant.student")

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
                if self.teacher.vectors and stage.cache_teacher and stage.teacher == "teacher":
                    raise ValueError(
                        f"{section}.{stage.name}.cache_teacher: vectors are on disk already. Leave it out."
                    )
                if stage.teacher == "assistant" and not self.assistant:
                    raise ValueError(f"{section}.{stage.name}.teacher: the recipe has no section assistant.")
