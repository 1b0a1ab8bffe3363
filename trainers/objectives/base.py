"""What every objective tells, and what several of them share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import reduce
from operator import or_
from typing import Any, ClassVar

from torch import Tensor, nn

from ...collators import Batch
from ...modeling import losses
from ...modeling.encoding import EncoderOutput, OutputRequest

# What a head's outputs are, as `problem_type` in a configuration names it.
REGRESSION, SINGLE_LABEL, MULTI_LABEL = "regression", "single_label_classification", "multi_label_classification"


class Objective(nn.Module, ABC):
    """One term of the loss, with the modules that are trained beside the student for it.

    It works in two steps. `forward` takes what it compares out of the student's outputs, through its own modules
    (projectors, say); `DistillationModel` calls it inside the forward pass that a Trainer prepares, where DDP and ZeRO
    see parameters. `values` compares that with the teacher; the Trainer calls it, outside of any autocast.

    Args:
        weight: in the loss.

    Attributes:
        name: of the values in the log, after `loss_`; a run has no two objectives of one name.
        description: what the model card calls it; its name, if this is empty.
        citation: key of the paper in `trainers/saving/citations.bib`, which the model card cites.
        reads: the outputs that it reads of the student, and of the teacher too if it `reads_teacher`. Objectives whose
            outputs depend on their settings have their own `student_request` and `teacher_request`.
        row_wise: whether it has one value for each row, rather than for each token.
        compares_rows: whether a value depends on which other rows are in the batch.
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
        """The student's outputs that this objective reads."""
        return self.reads

    def teacher_request(self) -> OutputRequest:
        """The teacher's outputs that this objective reads."""
        return self.student_request() if self.reads_teacher else OutputRequest()

    @abstractmethod
    def forward(self, student: EncoderOutput) -> Any:
        """What is compared of the student's outputs: a tensor, or several."""

    @abstractmethod
    def count(self, batch: Batch) -> int | Tensor:
        """How many values `values` gives for this batch."""

    @abstractmethod
    def values(self, ours: Any, teacher: EncoderOutput, batch: Batch) -> Tensor:
        """The loss of each row or token, `[count]`, float32. `ours` is what `forward` returned."""

    def measures(self, total: Tensor, batch: Batch) -> dict[str, tuple[Tensor, int | Tensor]]:
        """Further means to be logged, as sums and counts by name; `total` is the sum of the loss over a batch."""
        return {}


def student_request(objectives: Iterable[Objective]) -> OutputRequest:
    """All outputs of the student's that the objectives read."""
    return reduce(or_, (objective.student_request() for objective in objectives), OutputRequest())


def teacher_request(objectives: Iterable[Objective]) -> OutputRequest:
    """All outputs of the teacher's that the objectives read."""
    return reduce(or_, (objective.teacher_request() for objective in objectives), OutputRequest())


class Projector(nn.Linear):
    """Maps a student's vectors into the teacher's width."""

    def forward(self, vectors: Tensor) -> Tensor:
        """`[..., student_size]` -> `[..., teacher_size]`. Under DeepSpeed's bf16, pooled vectors come in float32."""
        return super().forward(vectors.to(self.weight.dtype))


def projector(student_size: int, teacher_size: int, kind: str) -> nn.Module:
    """A `Projector`, or nothing where the widths agree.

    Args:
        student_size: width of the student's vectors.
        teacher_size: width of the teacher's.
        kind: `"linear"` or `"none"`, as in the arguments.

    Raises:
        ValueError: the widths differ, and `kind` is `"none"`.
    """
    if student_size == teacher_size:
        return nn.Identity()
    if kind == "none":
        raise ValueError(
            f"The student's vectors have {student_size} features, the teacher's {teacher_size}, and projector='none' "
            "allows no map between them. Set projector='linear', or use similarity_weight or relation_weight, which "
            "compare across widths."
        )
    return Projector(student_size, teacher_size)


def distance(loss: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The function that a `..._loss` argument names."""
    return losses.cosine_distance if loss == "cosine" else losses.mean_squared_error


def aligned_tokens(student: Tensor, teacher: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Pair token vectors: of the same tokens, or of those that two tokenizers have for the same text."""
    if batch.alignment is None:
        return student, teacher
    return batch.alignment.of_student(student), batch.alignment.of_teacher(teacher)


def pair_count(batch: Batch) -> int:
    """How many pairs `aligned_tokens` gives."""
    return batch.layout.tokens if batch.alignment is None else len(batch.alignment)
