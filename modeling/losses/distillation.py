"""The losses that compare a student's outputs with its teacher's or with labels, computed in float32.

Every function returns one value per row or token, `[n]`, unreduced. The caller sums and divides by a count taken over
the whole optimizer step, all micro-batches and all ranks: so neither gradient accumulation nor the number of ranks
changes a gradient. Inputs are flat, without padding (see `layout`), so no function takes a mask; the two on attention
compare pairs of tokens and take the layout.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..encoding import TokenLayout

IGNORED_LABEL = -100


def mean_squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of logits, hidden states or embeddings `[n, features]`, averaged over the features."""
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
    """T² KL(teacher ‖ student) of the softened probabilities of each class by itself, averaged over the classes.

    Of heads whose classes don't exclude each other, so that a row has any number of them. As `soft_cross_entropy` of
    two classes, the other one's logit being 0; averaged as transformers averages binary cross-entropy.

    Inputs:
        student, teacher: `[n, classes]` logits over the same classes in the same order.
        temperature: tau, divides the logits.
    """
    return soft_cross_entropy(*(F.pad(each[..., None], (0, 1)) for each in (student, teacher)), temperature).mean(-1)


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each class by itself, averaged over the classes: logits and labels `[n, classes]`, the latter
    0 to 1."""
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


def similarity_matrix_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of the batch's cosine-similarity matrices, averaged over the columns.

    The mean of the result is the mean over the n² pairs. Student and teacher, `[n, features]`, may differ in width.

    Raises:
        ValueError: a batch of one, whose only similarity is 1.
    """
    if len(student) < 2:
        raise ValueError(
            "A similarity matrix needs at least two rows per batch on each rank, but got one. Raise "
            "per_device_train_batch_size, or set dataloader_drop_last=True if only the last batch is this small."
        )
    student = F.normalize(student.float(), dim=-1)
    teacher = F.normalize(teacher.float(), dim=-1)
    return (student @ student.T - teacher @ teacher.T).square().mean(-1)


def attention_error(student: Tensor, teacher: Tensor, layout: TokenLayout, kind: str) -> Tensor:
    """How far two attention maps are apart, per query token. Heads are averaged where their numbers differ.

    Inputs:
        student, teacher: `[rows, heads, width, width]`, each query's weights summing to 1 over the row's real tokens.
        layout: tells which of the width² pairs are real.
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
        # An attention weight may underflow to 0, where teacher * log(teacher) is 0 and log(student) must stay finite.
        floor = torch.finfo(torch.float32).tiny
        each = torch.xlogy(teacher, teacher) - teacher * student.clamp_min(floor).log()
    return layout.unpad(torch.where(pairs, each, 0).sum(-1).mean(1))


def relation_divergence(student: Tensor, teacher: Tensor, layout: TokenLayout, heads: int) -> Tensor:
    """KL between the self-attention relations of two layers (MiniLMv2, Wang et al. 2021, arXiv:2012.15828).

    The vectors of all attention heads are joined and cut anew into relation heads, so that neither the number of
    attention heads nor the width need agree. A relation is softmax(a aᵀ / √size) within a row.

    Inputs:
        student: `[tokens, student_width]` queries, keys or values; teacher: `[tokens, teacher_width]`, the same ones.
        layout: the rows they lie in.
        heads: relation heads; must divide both widths.

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
    """The task's own loss: of logits `[n, classes]` cross-entropy with integer labels `[n]`; of predictions
    `[n, values]` the squared error against floats `[n, values]`, or `[n]` of one value, averaged over the values.

    `label_smoothing`, 0 to 1, is the share of a label that all classes get alike (Szegedy et al. 2016,
    arXiv:1512.00567, section 7); numbers have none.
    """
    if labels.is_floating_point():
        return mean_squared_error(logits, labels.reshape(logits.shape))
    return F.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=label_smoothing)
