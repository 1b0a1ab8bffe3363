"""The contrastive loss on tokens of Kolesnikova et al. (2022, arXiv:2205.02340).

The anchor is a token's vector in one model, the positive is the same token's vector in the other model, and the
negatives are vectors of other tokens. Negatives come from

- the student: anchors are the teacher's vectors, positives the student's;
- the teacher: anchors are the student's vectors, positives the teacher's;
- both: anchors are the teacher's vectors, positives the student's. The vectors of both models are concatenated as
  negatives, and so are the masks.

Each model's tokens are flat (see `layout`). Masks say which of them are negatives, and which of these are drawn.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..encoding import exact_dtype
from .hyperbolic import exponential_map, poincare_distance, poincare_distances


def ignored_candidates(places: Tensor, candidates: Tensor, row_ids: Tensor, *, same_row: bool) -> Tensor:
    """Mask of the candidates that are not negatives: an anchor's own token and, if `same_row`, tokens of other rows.

    Args:
        places: `[n]`, flat indices of the anchors' tokens in the model that the negatives come from.
        candidates: `[m]`, flat indices of the tokens to choose negatives from: all tokens, or the aligned ones.
        row_ids: `[tokens]`, the row of each token of that model.
        same_row: take negatives only from the anchor's row instead of the whole batch.

    Returns:
        `[n, m]`, True where a candidate is not a negative.
    """
    ignored = places[:, None] == candidates
    return ignored | (row_ids[places][:, None] != row_ids[candidates]) if same_row else ignored


def draw_negatives(ignored: Tensor, count: int, uniform: Tensor) -> Tensor:
    """Draw `count` negatives for each anchor, uniformly without replacement, or all of them if there are fewer.

    Args:
        ignored: `[n, m]`, True where a candidate is not a negative.
        count: number of negatives, at least 0.
        uniform: `[n, m]`, random numbers in 0..1. The draw depends on nothing else.

    Returns:
        `[n, m]`, True where a candidate is not a negative or was not drawn.
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
    """-log(exp(s⁺/tau) / (exp(s⁺/tau) + Σ exp(s⁻/tau))) with an anchor's similarities s (arXiv:1807.03748, eq. 4).

    This follows the paper. The published code adds the Poincaré distance instead of subtracting it, and its faster
    variant omits tau.

    Inputs:
        anchors, positives: `[n, features]`, vectors of the same tokens in both models, of any length.
        negatives: `[m, features]`; ignored: `[n, m]`, True where a vector is not a negative of an anchor.
        temperature: tau, above 0.
        curvature: None for cosine similarity; c for the negative distance in the Poincaré ball of curvature -c, to
            which `exponential_map` maps the vectors.

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
    # Not minus infinity, whose gradient is NaN if every candidate is ignored.
    others = (others / temperature).masked_fill(ignored, torch.finfo(others.dtype).min).logsumexp(-1)
    return F.softplus(others - positive / temperature)
