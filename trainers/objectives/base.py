"""The base class of objectives, and helpers that several of them share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import reduce
from operator import or_
from typing import Any, ClassVar

from torch import Tensor, nn

from ...collators import Batch
from ...modeling import losses
from ...modeling.encoding import EncoderOutput, OutputRequest

# Kinds of outputs of a head, as in `PretrainedConfig.problem_type`.
REGRESSION, SINGLE_LABEL, MULTI_LABEL = "regression", "single_label_classification", "multi_label_classification"


class Objective(nn.Module, ABC):
    """One term of the loss, with the modules (such as projectors) that are trained with the student for it.

    It works in two steps. `forward` selects student outputs and applies the objective's own modules to them.
    `DistillationModel` calls it inside the forward pass that a Trainer prepares, where DDP and ZeRO see parameters.
    `values` compares the result with the teacher's outputs. The Trainer calls it outside of any autocast.

    Args:
        weight: weight of the term in the loss. Subclasses document only the arguments that they add.

    Attributes:
        name: name in the log, after `loss_`. It is unique among the objectives of a run.
        description: description in the model card; `name` if this is empty.
        citation: key of the paper in `trainers/saving/citations.bib`, which the model card cites.
        reads: outputs that it needs of the student, and of the teacher if `reads_teacher` is True. Objectives whose
            outputs depend on their settings override `student_request` and `teacher_request`.
        row_wise: whether there is one value per row rather than per token.
        compares_rows: whether a value depends on the other rows of the batch.
    """

    name: ClassVar[str]
    description: ClassVar[str] = ""
    citation: ClassVar[str | None] = None
    reads: ClassVar[OutputRequest]
    reads_teacher: ClassVar[bool] = True
    row_wise: bool = False
    compares_rows: bool = False

    def __init__(self, weight: float):
        super().__init__()
        self.weight = weight

    def student_request(self) -> OutputRequest:
        """The student outputs that this objective needs."""
        return self.reads

    def teacher_request(self) -> OutputRequest:
        """The teacher outputs that this objective needs."""
        return self.student_request() if self.reads_teacher else OutputRequest()

    @abstractmethod
    def forward(self, student: EncoderOutput) -> Any:
        """Select and project the student outputs that are compared: a tensor, or several."""

    @abstractmethod
    def count(self, batch: Batch) -> int | Tensor:
        """Number of values that `values` returns for this batch."""

    @abstractmethod
    def values(self, ours: Any, teacher: EncoderOutput, batch: Batch) -> Tensor:
        """The loss of each row or token, `[count]`, float32. `ours` is what `forward` returned."""

    def measures(self, total: Tensor, batch: Batch) -> dict[str, tuple[Tensor, int | Tensor]]:
        """Further means to log: name -> (sum, count). `total` is the sum of the loss over a batch."""
        return {}


def student_request(objectives: Iterable[Objective]) -> OutputRequest:
    """All student outputs that the objectives need."""
    return reduce(or_, (objective.student_request() for objective in objectives), OutputRequest())


def teacher_request(objectives: Iterable[Objective]) -> OutputRequest:
    """All teacher outputs that the objectives need."""
    return reduce(or_, (objective.teacher_request() for objective in objectives), OutputRequest())


def distance(loss: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss function for the value of a `..._loss` argument."""
    return losses.cosine_distance if loss == "cosine" else losses.mean_squared_error


def aligned_tokens(student: Tensor, teacher: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Pair token vectors: those of the same tokens, or of aligned tokens of two tokenizers."""
    if batch.alignment is None:
        return student, teacher
    return batch.alignment.of_student(student), batch.alignment.of_teacher(teacher)


def pair_count(batch: Batch) -> int:
    """Number of pairs that `aligned_tokens` returns."""
    return batch.layout.tokens if batch.alignment is None else len(batch.alignment)
