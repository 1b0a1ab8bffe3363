"""The linear map from a student's vectors to its teacher's."""

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
    if kind != "linear" and student_size == teacher_size:
        return nn.Identity()
    if kind == "none":
        raise ValueError(
            f"The student's vectors have {student_size} features, the teacher's {teacher_size}, and projector='none' "
            "allows no projector. Set projector='auto', or use similarity_weight or relation_weight, which don't "
            "need equal widths."
        )
    return Projector(student_size, teacher_size)


def least_squares(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of the ridge regression of a teacher's vectors on a student's, in float64.

    Args:
        student: `[rows, student_size]`.
        teacher: `[rows, teacher_size]`.

    Raises:
        ValueError: the student's vectors are all equal.
    """
    student, teacher = student.double(), teacher.double()
    mean = student.mean(0)
    centred = student - mean
    covariance = centred.T @ centred / len(student)
    ridge = _RIDGE * covariance.diagonal().mean()
    if not ridge > 0:
        raise ValueError(f"The student's vectors of {len(student)} texts are all equal, so no map can be fitted.")
    covariance.diagonal().add_(ridge)
    weight = torch.linalg.solve(covariance, centred.T @ teacher / len(student)).T
    return weight, teacher.mean(0) - weight @ mean
