"""Alignment between the student's and the teacher's tokens."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .tensor_group import TensorGroup


@dataclass(frozen=True)
class TokenAlignment(TensorGroup):
    """Pairs of one teacher token and one or several student tokens for the same text.

    Attributes:
        student: `[pieces]`, flat indices of the student's tokens, pair by pair.
        teacher: `[pairs]`, flat indices of the teacher's tokens.
        counts: `[pairs]`, number of student tokens in each pair; None if each pair has one.
    """

    student: Tensor
    teacher: Tensor
    counts: Tensor | None = None

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.teacher)

    def of_teacher(self, states: Tensor) -> Tensor:
        """Select the teacher's token of each pair: `[teacher's tokens, ...]` -> `[pairs, ...]`."""
        return states[self.teacher]

    def of_student(self, states: Tensor) -> Tensor:
        """Mean of each pair's student tokens, in float32: `[student's tokens, ...]` -> `[pairs, ...]`."""
        if self.counts is None:
            return states[self.student]
        return self.sums(states) / self.counts.view(-1, *[1] * (states.dim() - 1))

    def sums(self, states: Tensor) -> Tensor:
        """Sum of each pair's student tokens, in float32: `[student's tokens, ...]` -> `[pairs, ...]`."""
        if self.counts is None:
            return states[self.student].float()
        pairs = torch.arange(len(self), device=states.device)
        pairs = torch.repeat_interleave(pairs, self.counts, output_size=len(self.student))
        sums = states.new_zeros(len(self), *states.shape[1:], dtype=torch.float32)
        return sums.index_add(0, pairs, states[self.student].float())
