"""Losses that compare a student's outputs with its teacher's or with labels, computed in float32.

Every function returns one value per row or token, `[n]`, unreduced. The caller sums them and divides by a count over
the whole optimizer step: all micro-batches and all ranks. So neither gradient accumulation nor the number of ranks
changes a gradient. Inputs are flat, without padding (see `layout`), so no function takes a mask. The two attention
losses compare pairs of tokens, so they take the layout.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..encoding import TokenLayout
from .quantization import cosines_of_signs

IGNORED_LABEL = -100


def mean_squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of logits, hidden states or embeddings `[n, features]` over the features."""
    return (student.float() - teacher.float()).square().mean(-1)


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the cosine of vectors `[n, features]`, in 0..2: half the squared distance of the two unit vectors."""
    return 1 - F.cosine_similarity(student.float(), teacher.float(), dim=-1)


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² KL(teacher ‖ student) of the softened class distributions (Hinton et al. 2015, arXiv:1503.02531, eq. 1).

    Inputs:
        student, teacher: `[n, classes]` logits over the same classes in the same order. A teacher's logit of minus
            infinity is a class of probability 0, which adds nothing.
        temperature: tau, divides the logits; T² keeps the gradient's size independent of it.
    """
    student = F.log_softmax(student.float() / temperature, dim=-1)
    teacher = F.log_softmax(teacher.float() / temperature, dim=-1)
    divergence = F.kl_div(student, teacher, log_target=True, reduction="none")
    return temperature**2 * divergence.masked_fill(teacher == -torch.inf, 0).sum(-1)


def binary_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² KL(teacher ‖ student) of each class's softened probability, averaged over the classes.

    For multi-label heads. Each class is compared as by `soft_cross_entropy` of two classes, with 0 as the other logit.
    The average over the classes is that of transformers' binary cross-entropy.

    Inputs:
        student, teacher: `[n, classes]` logits over the same classes in the same order.
        temperature: tau, divides the logits.
    """
    return soft_cross_entropy(*(F.pad(each[..., None], (0, 1)) for each in (student, teacher)), temperature).mean(-1)


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy, averaged over the classes, of logits `[n, classes]` with labels `[n, classes]` in 0..1."""
    return F.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="none").mean(-1)


def hard_cross_entropy(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy of logits `[n, classes]` against the teacher's most likely class."""
    return task_loss(student, teacher.argmax(-1))


def margin_error(student: Tensor, teacher: Tensor) -> Tensor:
    """MarginMSE (Hofstätter et al. 2020, arXiv:2010.02666, eq. 2): squared difference of the margins by which a query's
    first document scores above each other, averaged over the others.

    Inputs:
        student, teacher: `[n, documents]` scores of each query's documents. Where queries have different numbers of
            them, those that a query lacks have the teacher's score minus infinity; none lacks the first.
    """
    student, teacher = student.float(), teacher.float()
    others = teacher[:, 1:] > -torch.inf
    ours, theirs = (scores[:, :1] - scores[:, 1:] for scores in (student, teacher))
    return torch.where(others, ours - theirs, 0).square().sum(-1) / others.sum(-1)


def similarity_matrix_error(student: Tensor, teacher: Tensor, *, of_signs: bool = False) -> Tensor:
    """Mean squared difference of the batch's cosine-similarity matrices over the columns, `[n]`.

    The mean of the result is the mean over the n² pairs. Student and teacher, `[n, features]`, may differ in width.
    With `of_signs`, the student's embeddings are signs. They are compared with the cosines that the signs of embeddings
    like the teacher's have (`cosines_of_signs`).
    """
    student = F.normalize(student.float(), dim=-1)
    teacher = F.normalize(teacher.float(), dim=-1)
    expected = teacher @ teacher.T
    return (student @ student.T - (cosines_of_signs(expected) if of_signs else expected)).square().mean(-1)


def attention_error(student: Tensor, teacher: Tensor, layout: TokenLayout, kind: str) -> Tensor:
    """Difference of two attention maps for each query token. Heads are averaged if their numbers differ.

    Inputs:
        student, teacher: `[rows, heads, width, width]`. Each query's weights sum to 1 over the row's real tokens.
        layout: the rows, which define the real pairs of tokens.
        kind: `"mse"`, the mean over heads and the row's keys of the squared difference; `"kl"`, the mean over heads of
            KL(teacher ‖ student) over the keys.

    Returns:
        `[tokens]`
    """
    if student.shape[1] != teacher.shape[1]:
        student, teacher = student.mean(1, keepdim=True), teacher.mean(1, keepdim=True)
    student, teacher = student.float(), teacher.float()
    pairs = (layout.mask[:, None, :, None] & layout.mask[:, None, None, :]).expand_as(student)
    if kind == "mse":
        keys = layout.lengths[:, None, None, None]
        each = (student - teacher).square() / keys
    else:
        # An attention weight may underflow to 0. There teacher * log(teacher) is 0, and log(student) must stay finite.
        floor = torch.finfo(torch.float32).tiny
        each = torch.xlogy(teacher, teacher) - teacher * student.clamp_min(floor).log()
    return layout.unpad(torch.where(pairs, each, 0).sum(-1).mean(1))


def relation_divergence(student: Tensor, teacher: Tensor, layout: TokenLayout, heads: int) -> Tensor:
    """KL between the self-attention relations of two layers (MiniLMv2, Wang et al. 2021, arXiv:2012.15828).

    The vectors of all attention heads are concatenated and split into relation heads, so student and teacher may differ
    in width and number of attention heads. A relation is softmax(a aᵀ / √size) within a row.

    Inputs:
        student: `[tokens, student_width]` queries, keys or values; teacher: `[tokens, teacher_width]`, the same kind.
        layout: the rows.
        heads: number of relation heads; must divide both widths.

    Returns:
        `[tokens]`, KL(teacher ‖ student) of each token's relations, averaged over the relation heads.
    """
    keys = layout.mask[:, None, None, :]

    def relations(flat: Tensor) -> Tensor:
        vectors = layout.pad(flat.float()).unflatten(-1, (heads, -1)).transpose(1, 2)
        scores = vectors @ vectors.transpose(-1, -2) / math.sqrt(vectors.shape[-1])
        return F.log_softmax(scores.masked_fill(~keys, torch.finfo(scores.dtype).min), dim=-1)

    divergence = F.kl_div(relations(student), relations(teacher), log_target=True, reduction="none")
    return layout.unpad(divergence.masked_fill(~keys, 0).sum(-1).mean(1))


def task_loss(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The task's loss: cross-entropy of logits `[n, classes]` with integer labels `[n]`; for float labels
    `[n, values]`, or `[n]` with one value, the mean squared error of predictions `[n, values]`.

    `label_smoothing`, 0 to 1, is the share of each label that is spread evenly over all classes (Szegedy et al. 2016,
    arXiv:1512.00567, section 7). It is ignored for float labels.
    """
    if labels.is_floating_point():
        return mean_squared_error(logits, labels.reshape(logits.shape))
    return F.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=label_smoothing)
