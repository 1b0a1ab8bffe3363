"""The setup of a run, which its checks read before weights are loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from ...modeling.encoding import SentenceEncoder
from ..arguments import DistillTrainingArguments
from ..objectives import Objective, student_request, teacher_request
from ..teachers import model_of


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The models, the objectives and the arguments of a run.

    Attributes:
        args: the run's arguments.
        objectives: the terms of the loss.
        student: the model to be trained.
        student_encoder: the student's own pooling and modules; None if it has none.
        teachers: outlines of the live teachers (see `outline_teacher`).
        has_teacher: whether there is a live teacher, a cache, or vectors.
        vectors: width of the teacher's vectors in the rows; None if the embeddings come from a teacher or a cache.
        same_tokens: whether the teacher reads the student's tokens: there is no teacher tokenizer, or it tokenises as
            the student's does.
        said_so: whether such a teacher tokenizer was given.
        needed: columns that the trainer's own collator needs. None if the user gave a collator, which may make them.
    """

    args: DistillTrainingArguments
    objectives: Sequence[Objective]
    student: PreTrainedModel
    student_encoder: SentenceEncoder | None
    teachers: Sequence[PreTrainedModel | SentenceEncoder]
    has_teacher: bool
    vectors: int | None
    same_tokens: bool
    said_so: bool
    needed: Sequence[str] | None

    @property
    def teacher_models(self) -> list[PreTrainedModel]:
        """The live teachers without their modules."""
        return list(map(model_of, self.teachers))

    @property
    def needs_vectors(self) -> bool:
        """Whether every row must have the teacher's vector."""
        return self.vectors is not None and bool(teacher_request(self.objectives))

    @property
    def encoders(self) -> list[tuple[str, SentenceEncoder]]:
        """`("teacher", encoder)` or `("student", encoder)` for each encoder whose embeddings are compared."""
        theirs = self.teachers if teacher_request(self.objectives).pooler else ()
        ours = [self.student_encoder] if student_request(self.objectives).pooler else ()
        sides = [*(("teacher", each) for each in theirs), *(("student", each) for each in ours)]
        return [(role, each) for role, each in sides if isinstance(each, SentenceEncoder)]


def named_sets(train: Any, evaluated: Any) -> dict[str, Any]:
    """The datasets of a trainer by their names in messages."""
    if isinstance(evaluated, dict):
        sets = {f"evaluation ({key})": rows for key, rows in evaluated.items()}
    else:
        sets = {"evaluation": evaluated}
    return {name: rows for name, rows in ({"training": train} | sets).items() if rows is not None}
