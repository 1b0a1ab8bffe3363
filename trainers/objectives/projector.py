"""The linear map from a student's vectors to its teacher's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Share of the mean variance of the student's features that is added to each variance. The features of pretrained
# encoders are correlated, and some are nearly constant.
_RIDGE = 1e-3


class Projector(nn.Linear):
    """Maps a student's vectors to the teacher's width."""

    def forward(self, vectors: Tensor) -> Tensor:
        """`[..., student_size]` -> `[..., teacher_size]`. Under DeepSpeed's bf16, pooled vectors are in float32."""
        return super().forward(vectors.to(self.weight.dtype))


def projector(student_size: int, teacher_size: int, kind: str) -> nn.Module:
    """A `Projector`, or an identity if `kind` asks for none.

    Args:
        student_size: width of the student's vectors.
        teacher_size: width of the teacher's vectors.
        kind: `"auto"`, `"linear"` or `"none"` (see `DistillTrainingArguments.projector`).

    Raises:
        ValueError: the widths differ, and `kind` is `"none"`.
    """
    if kind == "linear":
        return Projector(student_size, teacher_size)
    if student_size == teacher_size:
        return nn.Identity()
    if kind == "none":
        raise ValueError(
            f"The student's vectors have {student_size} features, the teacher's {teacher_size}, and projector='none' "
            "allows no projector. Set projector='auto', or use similarity_weight or relation_weight, which don't "
            "need equal widths."
        )
    return Projector(student_size, teacher_size)


class LeastSquares:
    """The ridge regression of a teacher's vectors on a student's, summed up batch by batch in float64.

    Args:
        student_size: width of the student's vectors.
        teacher_size: width of the teacher's vectors.
    """

    def __init__(self, student_size: int, teacher_size: int):
        self.rows = 0
        size = student_size + teacher_size
        self.sums, self.products = torch.zeros(size).double(), torch.zeros(size, size).double()
        self.student_size = student_size

    def add(self, student: Tensor, teacher: Tensor) -> None:
        """Add the vectors of a batch: `[rows, student_size]` and `[rows, teacher_size]`."""
        both = torch.cat([student.detach().double().cpu(), teacher.detach().double().cpu()], dim=1)
        self.rows += len(both)
        self.sums += both.sum(0)
        self.products += both.T @ both

    @torch.no_grad()
    def write_to(self, projector: Projector) -> None:
        """Set weight and bias to the solution.

        Raises:
            ValueError: there are no rows, or the student's vectors are all equal.
        """
        mean = self.sums / max(self.rows, 1)
        covariance = self.products / max(self.rows, 1) - torch.outer(mean, mean)
        size = self.student_size
        own, across = covariance[:size, :size], covariance[:size, size:]
        ridge = _RIDGE * own.diagonal().mean()
        if not ridge > 0:
            raise ValueError(f"The student's vectors of {self.rows} texts are all equal, so no map can be fitted.")
        weight = torch.linalg.solve(own + ridge * torch.eye(size).double(), across).T
        projector.weight.copy_(weight)
        projector.bias.copy_(mean[size:] - weight @ mean[:size])
