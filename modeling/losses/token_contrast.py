"""The contrastive loss on tokens, after Kolesnikova et al. (2022, arXiv:2205.02340).

A token's vector in one model, the anchor, is to tell the same token's vector in the other model, the positive, from
vectors of other tokens, the negatives, whose model is

- the student: the teacher's vectors are the anchors, the student's the positives;
- the teacher: the student's are the anchors, the teacher's the positives;
- both: the teacher's are the anchors, and both models' vectors are joined as negatives, and so are the masks.

Each model's tokens come flat (see `layout`): which of them may be negatives, and which are drawn, is a mask.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..encoding import exact_dtype
from .hyperbolic import exponential_map, poincare_distance, poincare_distances


def ignored_candidates(places: Tensor, candidates: Tensor, row_ids: Tensor, *, same_row: bool) -> Tensor:
    """Which tokens are no negatives of which anchors: an anchor's own token and, if so wished, those of other rows.

    Args:
        places: `[n]`, flat indices of the anchors' own tokens in the model whose vectors are to be negatives.
        candidates: `[m]`, flat indices of the tokens to choose from: all, or those that are aligned.
        row_ids: `[tokens]`, the row of each token of that model.
        same_row: take negatives from the anchor's row alone, not from the whole batch.

    Returns:
        `[n, m]`, True where a candidate is no negative.
    """
    ignored = places[:, None] == candidates
    return ignored | (row_ids[places][:, None] != row_ids[candidates]) if same_row else ignored


def draw_negatives(ignored: Tensor, count: int, uniform: Tensor) -> Tensor:
    """Leave each anchor `count` negatives, drawn uniformly without replacement, or all where it has no more.

    Args:
        ignored: `[n, m]`, True where a candidate is no negative.
        count: at least 0.
        uniform: `[n, m]`, random numbers in 0..1, on which alone the draw depends.

    Returns:
        `[n, m]`, True where a candidate is no negative or was not drawn.
    """
    drawn = uniform.masked_fill(ignored, 2).topk(min(count, ignored.shape[1]), largest=False).indices
    return ignored | torch.ones_like(ignored).scatter(1, drawn, False)


def token_contrast(
    anchors: Tensor,
    positives: Tensor,
    negatives: Tensor,
    ignored: Tensor,
    temperature: float | Tensor,
    curvature: float | Tensor | None = None,
) -> Tensor:
    """-log(exp(s⁺/tau) / (exp(s⁺/tau) + Σ exp(s⁻/tau))), s being similarities of an anchor (arXiv:1807.03748, eq. 4).

    As the paper means it: what was published adds the Poincaré distance where it must take it off, and its faster
    variant leaves out tau.

    Inputs:
        anchors, positives: `[n, features]`, vectors of the same tokens in both models, of any length.
        negatives: `[m, features]`; ignored: `[n, m]`, True where one is no negative of an anchor.
        temperature: tau, above 0.
        curvature: None for the cosine as the similarity; c for minus the distance in the Poincaré ball of curvature
            -c, onto which `exponential_map` brings the vectors.

    Returns:
        `[n]`, at least 0; 0 for an anchor without negatives.
    """
    if curvature is None:
        exact = exact_dtype(anchors)
        vectors = (anchors, positives, negatives)
        anchors, positives, negatives = (F.normalize(each.to(exact), dim=-1) for each in vectors)
        positive, others = (anchors * positives).sum(-1), anchors @ negatives.T
    else:
        anchors, positives, negatives = (exponential_map(each, curvature) for each in (anchors, positives, negatives))
        positive = -poincare_distance(anchors, positives, curvature)
        others = -poincare_distances(anchors, negatives, curvature)
    # Not minus infinity, whose gradient is not a number where every candidate is ignored.
    others = (others / temperature).masked_fill(ignored, torch.finfo(others.dtype).min).logsumexp(-1)
    return F.softplus(others - positive / temperature)
