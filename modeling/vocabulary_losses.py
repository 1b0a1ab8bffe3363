"""Losses over whole vocabularies, whose logits are never all alive at once.

A vocabulary of 120,000 makes 245 MB of 512 tokens' logits, and softmax, loss and gradient each want as much again. So
the output layer is applied here, to a few tokens at a time, and once more when the gradient passes through them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .losses import soft_cross_entropy
from .vocabulary_map import VocabularyMap

# Logits of one side that are alive at a time: 32 MB in float32.
CHUNK_LOGITS = 2**23


@dataclass(frozen=True)
class OutputLayer:
    """The linear map from features to a logit for each token of a vocabulary.

    Attributes:
        weight: `[vocabulary, features]`, in the number format that products are computed in.
        bias: `[vocabulary]`, or None.
    """

    weight: Tensor
    bias: Tensor | None = None

    def __len__(self) -> int:
        """How many tokens the vocabulary has."""
        return len(self.weight)

    def rows(self, tokens: Tensor) -> OutputLayer:
        """The part that makes the logits of `tokens` `[k]`."""
        bias = None if self.bias is None else self.bias.index_select(0, tokens)
        return OutputLayer(self.weight.index_select(0, tokens), bias)

    def columns(self, features: Tensor, times: Tensor | None = None) -> Tensor:
        """Logits of some places of a text, a column for each, `[vocabulary, n]`; float32 if not more exact.

        Args:
            features: `[n, features]`, or sums over several places, whose logits are then summed.
            times: `[n]`, how many places each is the sum of; None for one.
        """
        exact = torch.promote_types(features.dtype, torch.float32)
        logits = (self.weight @ features.to(self.weight.dtype).T).to(exact)
        if self.bias is None:
            return logits
        bias = self.bias.to(exact)[:, None]
        return logits + (bias if times is None else bias * times)


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
        layers: the student's output layer and the teacher's.
        vocabulary: which logits are compared.
        temperature: tau, divides the logits.
        times: `[n]`, how many tokens each of the student's is the sum of; None for one.

    Returns:
        `[n]`, at least 0
    """
    # Chosen before they are multiplied: a small vocabulary shares few of a large one's tokens.
    ours, theirs = layers[0], layers[1].rows(vocabulary.tokens)
    times = torch.ones(len(student), device=student.device) if times is None else times

    def divergence(student: Tensor, teacher: Tensor, times: Tensor) -> Tensor:
        mine = vocabulary.of_tokens(ours.columns(student, times))
        return soft_cross_entropy(mine.T, theirs.columns(teacher).T, temperature)

    return _by_chunks(divergence, max(len(ours), len(theirs)), student, teacher, times)


def vocabulary_cross_entropy(features: Tensor, labels: Tensor, layer: OutputLayer) -> Tensor:
    """Cross-entropy of tokens of a vocabulary, as in masked language modelling.

    Inputs:
        features: `[n, features]`, what the output layer reads at n places; labels: `[n]`, the tokens that stand there.
        layer: the output layer.

    Returns:
        `[n]`, at least 0
    """

    def cross_entropy(features: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(layer.columns(features).T, labels, reduction="none")

    return _by_chunks(cross_entropy, len(layer), features, labels)


def _by_chunks(loss: Callable[..., Tensor], vocabulary: int, *rows: Tensor) -> Tensor:
    """Apply a loss to some rows at a time; what it makes on the way is made again when the gradient is asked for."""
    size = max(1, CHUNK_LOGITS // vocabulary)
    parts = zip(*(tensor.split(size) for tensor in rows), strict=True)
    return torch.cat([checkpoint(loss, *part, use_reentrant=False, preserve_rng_state=False) for part in parts])
