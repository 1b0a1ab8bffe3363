"""Losses over whole vocabularies, whose logits are never all alive at once.

A vocabulary of 120,000 makes 245 MB of 512 tokens' logits, and softmax, loss and gradient each want as much again. So
the output layer is applied here, to some tokens at a time (see `chunks`), and their part of the gradient is computed at
once.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..encoding import OutputLayer, exact_dtype
from ..vocabularies import VocabularyMap
from .chunks import numbers_at_a_time
from .distillation import soft_cross_entropy, task_loss

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


def vocabulary_cross_entropy(
    features: Tensor, labels: Tensor, layer: OutputLayer, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy of tokens of a vocabulary, as in masked language modelling.

    Inputs:
        features: `[n, features]`, what the output layer reads at n places; labels: `[n]`, the tokens that stand there.
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
    """A loss of a student's and a teacher's logits over one vocabulary, neither side's of which are ever whole.

    Inputs:
        loss: from logits of both sides, `[n, vocabulary]` each, to the loss of each place, `[n]`:
            `partial(losses.soft_cross_entropy, temperature=tau)`, `losses.mean_squared_error` or
            `losses.hard_cross_entropy`.
        student: `[n, student_features]`, what its output layer reads at n places of a text; teacher:
            `[n, teacher_features]`, likewise at the same places.
        layers: the student's output layer and the teacher's. No gradient flows to the teacher.

    Returns:
        `[n]`

    Raises:
        ValueError: the vocabularies differ in size.
    """
    ours, theirs = layers
    if len(ours) != len(theirs):
        raise ValueError(
            f"The student's output layer is over {len(ours)} tokens, the teacher's over {len(theirs)}. Logits can be "
            "compared over one vocabulary only; across vocabularies, use VocabReducedMLMTrainer."
        )

    def of_logits(student: Tensor, teacher: Tensor, *layer: Tensor | None) -> Tensor:
        return loss(OutputLayer(*layer).columns(student).T, theirs.columns(teacher).T)

    return _by_chunks(of_logits, len(ours), (student, teacher.detach()), ours)


def _by_chunks(loss: Callable[..., Tensor], vocabulary: int, rows: tuple[Tensor, ...], layer: OutputLayer) -> Tensor:
    """Apply a loss to some rows at a time, as `loss(*rows, weight, bias)`."""
    size = numbers_at_a_time(layer.weight.device) // vocabulary
    size = size - size % GRANULE if size >= GRANULE else max(1, size)
    sweep = partial(_sweep, loss, len(rows), size)
    tensors = (*rows, layer.weight, layer.bias)
    return _ByChunks.apply(sweep, *tensors) if torch.is_grad_enabled() else sweep(tensors, [False] * len(tensors))[0]


class _ByChunks(torch.autograd.Function):
    """The gradient is computed along with the loss, as it is if all rows are summed: so each logit is made once.

    If they weigh differently, it is computed anew; in float16, too, where it would vanish before it is scaled.
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
        # The gradient of a sum is one number, seen as many: told without waiting for the device to compare them.
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
    """A loss of each row and the gradient of their sum, some rows at a time.

    Args:
        loss: from some rows of the first tensors, and the others whole, to the loss of each row.
        rows: how many tensors are taken by rows.
        size: rows at a time.
        tensors: what the loss is of.
        wanted: by which tensors the gradient is computed.
        weights: each row's in the sum; None for 1.
    """
    gradients = [torch.zeros_like(t, dtype=exact_dtype(t)) if w else None for t, w in zip(tensors, wanted, strict=True)]

    def values_from(start: int) -> Tensor:
        chunk = slice(start, start + size)
        parts = [t if t is None else (t[chunk] if i < rows else t).detach() for i, t in enumerate(tensors)]
        leaves = {i: part.requires_grad_() for i, part in enumerate(parts) if gradients[i] is not None}
        # Backward knows nothing of autocast, and must compute the same: the tensors' own formats hold.
        with torch.autocast(parts[0].device.type, enabled=False), torch.set_grad_enabled(bool(leaves)):
            values = loss(*parts)
            factors = torch.ones_like(values) if weights is None else weights[chunk]
            found = torch.autograd.grad(values, tuple(leaves.values()), factors) if leaves else ()
        for i, gradient in zip(leaves, found, strict=True):
            (gradients[i][chunk] if i < rows else gradients[i]).add_(gradient)
        return values.detach()

    return torch.cat([values_from(start) for start in range(0, max(1, len(tensors[0])), size)]), gradients
