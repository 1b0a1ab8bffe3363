"""Losses over whole vocabularies, whose logits are never all alive at once.

A vocabulary of 120,000 makes 245 MB of 512 tokens' logits, and softmax, loss and gradient each want as much again. So
the output layer is applied here, to a few tokens at a time, and their part of the gradient is computed at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..encoding import OutputLayer, exact_dtype
from ..vocabularies import VocabularyMap
from .distances import soft_cross_entropy

# Logits of one side that are alive at a time: 32 MB in float32.
CHUNK_LOGITS = 2**23

# Of so many places of a text, or a multiple: products of 64 columns take two thirds of the time of those of 69 (AVX2).
GRANULE = 16


def vocabulary_divergence(
    student: Tensor,
    teacher: Tensor,
    layers: tuple[OutputLayer, OutputLayer],
    vocabulary: VocabularyMap,
    temperature: float,
    times: Tensor | None = None,
) -> Tensor:
    """T² KL(teacher ‖ student) over tokens of the teacher's vocabulary, whose probabilities are scaled to sum to 1.

    Kolesnikova et al. 2022, arXiv:2205.02340. As `losses.soft_cross_entropy`, but for logits that don't exist yet.

    Inputs:
        student: `[n, student_features]`, what its output layer reads at n places of a text, or the sums of what it
            reads at several tokens; teacher: `[n, teacher_features]`, likewise, of one token.
        layers: the student's output layer and the teacher's. No gradient flows to the teacher.
        vocabulary: which logits are compared.
        temperature: tau, divides the logits.
        times: `[n]`, how many tokens each of the student's is the sum of; None for one.

    Returns:
        `[n]`, at least 0
    """
    ours, theirs, tokens = *layers, vocabulary.tokens
    # A small vocabulary shares few of a large one's tokens: they are chosen before they are multiplied. Most of a
    # layer is not copied.
    few = 2 * len(tokens) < len(theirs)
    theirs = theirs.rows(tokens) if few else theirs
    times = torch.ones(len(student), device=student.device) if times is None else times

    def divergence(student: Tensor, teacher: Tensor, times: Tensor, *layer: Tensor | None) -> Tensor:
        mine = vocabulary.of_tokens(OutputLayer(*layer).columns(student, times))
        logits = theirs.columns(teacher)
        logits = logits if few else logits.index_select(0, tokens)
        return soft_cross_entropy(mine.T, logits.T, temperature)

    return _by_chunks(divergence, max(len(ours), len(theirs)), (student, teacher.detach(), times), ours)


def vocabulary_cross_entropy(features: Tensor, labels: Tensor, layer: OutputLayer) -> Tensor:
    """Cross-entropy of tokens of a vocabulary, as in masked language modelling.

    Inputs:
        features: `[n, features]`, what the output layer reads at n places; labels: `[n]`, the tokens that stand there.
        layer: the output layer.

    Returns:
        `[n]`, at least 0
    """

    def cross_entropy(features: Tensor, labels: Tensor, *layer: Tensor | None) -> Tensor:
        return F.cross_entropy(OutputLayer(*layer).columns(features).T, labels, reduction="none")

    return _by_chunks(cross_entropy, len(layer), (features, labels), layer)


def _by_chunks(loss: Callable[..., Tensor], vocabulary: int, rows: tuple[Tensor, ...], layer: OutputLayer) -> Tensor:
    """Apply a loss to some rows at a time, as `loss(*rows, weight, bias)`."""
    size = CHUNK_LOGITS // vocabulary
    sweep = _Sweep(loss, len(rows), size - size % GRANULE if size >= GRANULE else max(1, size))
    tensors = (*rows, layer.weight, layer.bias)
    return _ByChunks.apply(sweep, *tensors) if torch.is_grad_enabled() else sweep(tensors)[0]


class _ByChunks(torch.autograd.Function):
    """The gradient is computed along with the loss, as it is if all rows are summed: so each logit is made once.

    If they weigh differently, it is computed anew; in float16, too, where it would vanish before it is scaled.
    """

    @staticmethod
    def forward(ctx, sweep: _Sweep, *tensors: Tensor | None) -> Tensor:
        ctx.sweep, ctx.wanted = sweep, ctx.needs_input_grad[1:]
        ctx.save_for_backward(*tensors)
        ctx.along = all(tensor is None or tensor.dtype != torch.float16 for tensor in tensors)
        values, ctx.gradients = sweep(tensors, ctx.wanted if ctx.along else None)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx, weights: Tensor) -> tuple[Tensor | None, ...]:
        # The gradient of a sum is one number, seen as many: told without waiting for the device to compare them.
        if ctx.along and not any(weights.stride()):
            weight = weights[0] if len(weights) else 0
            return None, *(gradient if gradient is None else gradient * weight for gradient in ctx.gradients)
        return None, *ctx.sweep(ctx.saved_tensors, ctx.wanted, weights)[1]


@dataclass(frozen=True)
class _Sweep:
    """A loss and its gradient, some rows at a time.

    Attributes:
        loss: from some rows of the first tensors, and the others whole, to the loss of each row.
        rows: how many tensors are taken by rows.
        size: rows at a time.
    """

    loss: Callable[..., Tensor]
    rows: int
    size: int

    def __call__(
        self, tensors: Sequence[Tensor | None], wanted: Sequence[bool] | None = None, weights: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor | None]]:
        """The loss of each row, and the gradient of their sum, each row times its weight, by the tensors `wanted`."""
        wanted = wanted or [False] * len(tensors)
        gradients = [
            torch.zeros_like(t, dtype=exact_dtype(t)) if w else None for t, w in zip(tensors, wanted, strict=True)
        ]
        starts = range(0, max(1, len(tensors[0])), self.size)
        return torch.cat([self._chunk(start, tensors, gradients, weights) for start in starts]), gradients

    def _chunk(
        self,
        start: int,
        tensors: Sequence[Tensor | None],
        gradients: Sequence[Tensor | None],
        weights: Tensor | None,
    ) -> Tensor:
        """The loss of the rows from `start` on; what they add to the gradients is added."""
        chunk = slice(start, start + self.size)
        parts = [t if t is None else (t[chunk] if i < self.rows else t).detach() for i, t in enumerate(tensors)]
        wanted = [index for index, gradient in enumerate(gradients) if gradient is not None]
        leaves = [parts[index].requires_grad_() for index in wanted]
        # Backward knows nothing of autocast, and must compute the same: the tensors' own formats hold.
        with torch.autocast(parts[0].device.type, enabled=False), torch.set_grad_enabled(bool(wanted)):
            values = self.loss(*parts)
            weights = torch.ones_like(values) if weights is None else weights[chunk]
            found = torch.autograd.grad(values, leaves, weights) if wanted else ()
        for index, gradient in zip(wanted, found, strict=True):
            (gradients[index][chunk] if index < self.rows else gradients[index]).add_(gradient)
        return values.detach()
