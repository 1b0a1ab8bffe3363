"""What every objective tells, and the distances that several of them measure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ...collators import Batch
from ...modeling import losses
from ...modeling.encoding import EncoderOutput, OutputRequest


@dataclass(frozen=True)
class Objective(ABC):
    """One term of the loss.

    Attributes:
        name: what logs call it.
        description: what the model card calls it; its name, if this is empty.
        citation: key of the paper in `trainers/saving/citations.bib`, which the model card cites.
        weight: of its values in the loss.
    """

    name: ClassVar[str]
    description: ClassVar[str] = ""
    citation: ClassVar[str | None] = None
    weight: float

    @abstractmethod
    def student_request(self) -> OutputRequest:
        """The student's outputs that this objective reads."""

    def teacher_request(self) -> OutputRequest:
        """The teacher's outputs that this objective reads."""
        return self.student_request()

    def heads(self) -> dict[str, nn.Module]:
        """Modules to be trained beside the student (see `DistillationModel`)."""
        return {}

    @abstractmethod
    def count(self, batch: Batch) -> int | Tensor:
        """How many values `__call__` gives for this batch."""

    @abstractmethod
    def __call__(self, student: EncoderOutput, teacher: EncoderOutput, batch: Batch) -> Tensor:
        """The loss of each row or token, `[count]`, float32."""


def distance(loss: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The function that a `..._loss` argument names."""
    return losses.cosine_distance if loss == "cosine" else losses.mean_squared_error
