"""Losses over whole vocabularies that never hold all logits in memory.

The logits of 512 tokens over a vocabulary of 120,000 take 245 MB, and softmax, loss and gradient each take as much
again. So the losses apply the output layer themselves, to a few tokens at a time (see `chunks`), and compute the
gradient of each chunk immediately.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..encoding import OutputLayer, exact_dtype
from ..vocabularies import VocabularyMap
from .chunks import max_chunk_numel
from .distillation import soft_cross_entropy, task_loss

# Chunks have a multiple of this many positions: products with 64 columns take two thirds of the time of 69 (AVX2).
GRANULE = 16


def vocabulary_divergence(
    student: Tensor,
    teacher: Tensor,
    layers: tuple[OutputLayer, OutputLayer],
    vocabulary: VocabularyMap,
    temperature: float,
    times: Tensor | None = None,
) -> Tensor:
    """T² KL(teacher ‖ student) over tokens of the teacher's vocabulary, with their probabilities scaled to sum to 1.

    As in Kolesnikova et al. 2022, arXiv:2205.02340. Same as `losses.soft_cross_entropy`, but takes features and output
    layers instead of logits.

    Inputs:
        student: `[n, student_features]`, inputs of the output layer at n positions, or sums of them over several
            tokens; teacher: `[n, teacher_features]`, at one token each.
        layers: output layers of student and teacher. The teacher gets no gradient.
        vocabulary: the tokens to compare.
        temperature: tau, divides the logits.
        times: `[n]`, number of student tokens in each sum; None for one.

    Returns:
        `[n]`, at least 0
    """
    ours, theirs, tokens = *layers, vocabulary.tokens
    # If few of the teacher's tokens are compared, their rows are selected before the product. Otherwise all logits are
    # computed, since selecting would copy most of the layer.
    few = 2 * len(tokens) < len(theirs)
    theirs = theirs.rows(tokens) if few else theirs
    times = torch.ones(len(student), device=student.device) if times is None else times

    def divergence(student: Tensor, teacher: Tensor, times: Tensor, *layer: Tensor | None) -> Tensor:
        mine = vocabulary.of_tokens(OutputLayer(*layer).columns(student, times))
        logits = theirs.columns(teacher)
        logits = logits if few else logits.index_select(0, tokens)
        return soft_cross_entropy(mine.T, logits.T, temperature)

    return _by_chunks(divergence, max(len(ours), len(theirs)), (student, teacher.detach(), times), ours)


def vocabulary_cross_entropy(
    features: Tensor, labels: Tensor, layer: OutputLayer, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy of tokens of a vocabulary, as in masked language modelling.

    Inputs:
        features: `[n, features]`, inputs of the output layer at n positions; labels: `[n]`, the tokens there.
        layer: the output layer.
        label_smoothing: as in `losses.task_loss`.

    Returns:
        `[n]`, at least 0
    """

    def cross_entropy(features: Tensor, labels: Tensor, *layer: Tensor | None) -> Tensor:
        return task_loss(OutputLayer(*layer).columns(features).T, labels, label_smoothing)

    return _by_chunks(cross_entropy, len(layer), (features, labels), layer)


def vocabulary_loss(
    loss: Callable[[Tensor, Tensor], Tensor], student: Tensor, teacher: Tensor, layers: tuple[OutputLayer, OutputLayer]
) -> Tensor:
    """A loss of student and teacher logits over one vocabulary, computed in chunks.

    Inputs:
        loss: maps the logits of student and teacher, `[n, vocabulary]` each, to one loss per position, `[n]`:
            `partial(losses.soft_cross_entropy, temperature=tau)`, `losses.mean_squared_error` or
            `losses.hard_cross_entropy`.
        student: `[n, student_features]`, inputs of the output layer at n positions; teacher:
            `[n, teacher_features]`, at the same positions.
        layers: output layers of student and teacher. The teacher gets no gradient.

    Returns:
        `[n]`

    Raises:
        ValueError: the vocabularies differ in size.
    """
    ours, theirs = layers
    if len(ours) != len(theirs):
        raise ValueError(
            f"The student's output layer has {len(ours)} tokens, the teacher's {len(theirs)}. Logits can only be "
            "compared over one vocabulary. Use VocabReducedMLMTrainer across vocabularies."
        )

    def of_logits(student: Tensor, teacher: Tensor, *layer: Tensor | None) -> Tensor:
        return loss(OutputLayer(*layer).columns(student).T, theirs.columns(teacher).T)

    return _by_chunks(of_logits, len(ours), (student, teacher.detach()), ours)


def _by_chunks(loss: Callable[..., Tensor], vocabulary: int, rows: tuple[Tensor, ...], layer: OutputLayer) -> Tensor:
    """Apply a loss to chunks of the rows, as `loss(*rows, weight, bias)`."""
    size = max_chunk_numel(layer.weight.device) // vocabulary
    size = size - size % GRANULE if size >= GRANULE else max(1, size)
    sweep = partial(_sweep, loss, len(rows), size)
    tensors = (*rows, layer.weight, layer.bias)
    return _ByChunks.apply(sweep, *tensors) if torch.is_grad_enabled() else sweep(tensors, [False] * len(tensors))[0]


class _ByChunks(torch.autograd.Function):
    """Computes the gradient together with the loss, for a sum over all rows, so each logit is computed only once.

    Backward computes it again if the rows have different weights, and in float16, where it could underflow before the
    loss is scaled.
    """

    @staticmethod
    def forward(ctx, sweep: Callable, *tensors: Tensor | None) -> Tensor:
        ctx.sweep, ctx.wanted = sweep, ctx.needs_input_grad[1:]
        ctx.save_for_backward(*tensors)
        ctx.along = all(tensor is None or tensor.dtype != torch.float16 for tensor in tensors)
        values, ctx.gradients = sweep(tensors, ctx.wanted if ctx.along else [False] * len(tensors))
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx, weights: Tensor) -> tuple[Tensor | None, ...]:
        # The gradient of a sum is one expanded number, which its strides show without synchronising with the device.
        if ctx.along and not any(weights.stride()):
            weight = weights[0] if len(weights) else 0
            return None, *(gradient if gradient is None else gradient * weight for gradient in ctx.gradients)
        return None, *ctx.sweep(ctx.saved_tensors, ctx.wanted, weights)[1]


def _sweep(
    loss: Callable[..., Tensor],
    rows: int,
    size: int,
    tensors: Sequence[Tensor | None],
    wanted: Sequence[bool],
    weights: Tensor | None = None,
) -> tuple[Tensor, list[Tensor | None]]:
    """Compute the loss of each row and the gradient of their sum in chunks.

    Args:
        loss: maps a chunk of the first `rows` tensors, and the other tensors, to the loss of each row.
        rows: number of tensors that are split into chunks.
        size: rows per chunk.
        tensors: arguments of the loss.
        wanted: whether the gradient is computed, for each tensor.
        weights: weight of each row in the sum; None for 1.
    """
    gradients = [torch.zeros_like(t, dtype=exact_dtype(t)) if w else None for t, w in zip(tensors, wanted, strict=True)]

    def values_from(start: int) -> Tensor:
        chunk = slice(start, start + size)
        parts = [t if t is None else (t[chunk] if i < rows else t).detach() for i, t in enumerate(tensors)]
        leaves = {i: part.requires_grad_() for i, part in enumerate(parts) if gradients[i] is not None}
        # Backward runs outside autocast and must compute the same values, so the tensors keep their dtypes.
        with torch.autocast(parts[0].device.type, enabled=False), torch.set_grad_enabled(bool(leaves)):
            values = loss(*parts)
            factors = torch.ones_like(values) if weights is None else weights[chunk]
            found = torch.autograd.grad(values, tuple(leaves.values()), factors) if leaves else ()
        for i, gradient in zip(leaves, found, strict=True):
            (gradients[i][chunk] if i < rows else gradients[i]).add_(gradient)
        return values.detach()

    return torch.cat([values_from(start) for start in range(0, max(1, len(tensors[0])), size)]), gradients
