"""What every objective tells, and what several of them share."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ...collators import Batch
from ...modeling import losses
from ...modeling.encoding import EncoderOutput, OutputRequest

# What a head's outputs are, as `problem_type` in a configuration names it.
REGRESSION, SINGLE_LABEL, MULTI_LABEL = "regression", "single_label_classification", "multi_label_classification"


@dataclass(frozen=True)
class Objective(ABC):
    """One term of the loss.

    Attributes:
        name: of the values in the log, after `loss_`.
        description: what the model card calls it; its name, if this is empty.
        citation: key of the paper in `trainers/saving/citations.bib`, which the model card cites.
        reads: the outputs that it reads of the student, and of the teacher too if it `reads_teacher`. Objectives whose
            outputs depend on their settings have their own `student_request` and `teacher_request`.
        weight: in the loss.
    """

    name: ClassVar[str]
    description: ClassVar[str] = ""
    citation: ClassVar[str | None] = None
    reads: ClassVar[OutputRequest]
    reads_teacher: ClassVar[bool] = True
    weight: float

    def student_request(self) -> OutputRequest:
        """The student's outputs that this objective reads."""
        return self.reads

    def teacher_request(self) -> OutputRequest:
        """The teacher's outputs that this objective reads."""
        return self.student_request() if self.reads_teacher else OutputRequest()

    @property
    def compares_rows(self) -> bool:
        """Whether a value depends on which other rows are in the batch."""
        return False

    def heads(self) -> dict[str, nn.Module]:
        """Modules to be trained beside the student (see `DistillationModel`)."""
        return {}

    @abstractmethod
    def count(self, batch: Batch) -> int | Tensor:
        """How many values `__call__` gives for this batch."""

    @abstractmethod
    def __call__(self, student: EncoderOutput, teacher: EncoderOutput, batch: Batch) -> Tensor:
        """The loss of each row or token, `[count]`, float32."""

    def measures(self, total: Tensor, batch: Batch) -> dict[str, tuple[Tensor, int | Tensor]]:
        """Further means to be logged, as sums and counts by name; `total` is the sum of the loss over a batch."""
        return {}


def distance(loss: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The function that a `..._loss` argument names."""
    return losses.cosine_distance if loss == "cosine" else losses.mean_squared_error


def projectors(student_size: int, teacher_size: int, *names: str) -> dict[str, nn.Module]:
    """A head of each name that maps the student's vectors into the teacher's width; none where the widths agree."""
    return {} if student_size == teacher_size else {name: nn.Linear(student_size, teacher_size) for name in names}


def aligned_tokens(student: Tensor, teacher: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Pair token vectors: of the same tokens, or of those that two tokenizers have for the same text."""
    if "alignment" not in batch:
        return student, teacher
    return batch["alignment"].of_student(student), batch["alignment"].of_teacher(teacher)


def pair_count(batch: Batch) -> int:
    """How many pairs `aligned_tokens` gives."""
    return len(batch["alignment"]) if "alignment" in batch else batch["layout"].tokens
