"""Which of the student's tokens stand for which of the teacher's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .tensor_group import TensorGroup


@dataclass(frozen=True)
class TokenAlignment(TensorGroup):
    """Pairs of one token of the teacher's and the tokens of the student's, one or several, for the same text.

    Attributes:
        student: `[pieces]`, flat indices of the student's tokens, pair by pair.
        teacher: `[pairs]`, flat indices of the teacher's.
        counts: `[pairs]`, how many of the student's each pair has; None for one each.
    """

    student: Tensor
    teacher: Tensor
    counts: Tensor | None = None

    def __len__(self) -> int:
        """How many pairs there are."""
        return len(self.teacher)

    def of_teacher(self, states: Tensor) -> Tensor:
        """`[teacher's tokens, ...]` -> `[pairs, ...]`."""
        return states[self.teacher]

    def of_student(self, states: Tensor) -> Tensor:
        """`[student's tokens, ...]` -> `[pairs, ...]`, the mean of each pair's tokens in float32."""
        if self.counts is None:
            return states[self.student]
        return self.sums(states) / self.counts.view(-1, *[1] * (states.dim() - 1))

    def sums(self, states: Tensor) -> Tensor:
        """`[student's tokens, ...]` -> `[pairs, ...]`, the sum of each pair's tokens in float32."""
        if self.counts is None:
            return states[self.student].float()
        pairs = torch.arange(len(self), device=states.device)
        pairs = torch.repeat_interleave(pairs, self.counts, output_size=len(self.student))
        sums = states.new_zeros(len(self), *states.shape[1:], dtype=torch.float32)
        return sums.index_add(0, pairs, states[self.student].float())
