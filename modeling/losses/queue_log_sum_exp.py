"""The share of many keys in a contrastive loss, at the price of two matrix products."""

from __future__ import annotations

import torch
from torch import Tensor

# Keys whose exponentials are taken at a time: a piece that stays in a processor's cache.
CHUNK = 2048

# Parts in which keys are summed, side by side.
PARTS = 8


def queue_log_sum_exp(anchors: Tensor, ids: Tensor, keys: Tensor, key_ids: Tensor) -> Tensor:
    """log of the sum of exp(anchor · key) over the keys that are of another text than the anchor.

    The gradient is computed along, so that the one `[m, n]` matrix that is made, in the keys' number format, is gone
    before backward, and neither the keys nor the matrix is ever copied. Sums are taken in float32.

    Inputs:
        anchors: `[n, features]`, float32, unit vectors times 1/tau; ids: `[n]`, what text each is of.
        keys: `[m, features]`, unit vectors, to which no gradient flows; key_ids: `[m]`.

    Returns:
        `[n]`, very low where no key is of another text.
    """
    return _QueueLogSumExp.apply(anchors, ids, keys, key_ids)


class _QueueLogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, anchors: Tensor, ids: Tensor, keys: Tensor, key_ids: Tensor) -> Tensor:
        float32 = torch.finfo(torch.float32)
        products = keys @ anchors.to(keys.dtype).T
        shift = _shift(products, anchors)
        owners, own = _places(key_ids, ids)
        total = torch.zeros_like(shift)
        for piece, piece_owners in zip(products.split(CHUNK), owners.split(CHUNK), strict=True):
            weights = piece.float().sub_(shift).exp_()
            # As numbers: a product with them is several times faster than a mask.
            weights.mul_(torch.ne(piece_owners[:, None], own, out=torch.empty_like(weights)))
            total += (weights.new_ones(1, len(weights)) @ weights)[0]
            piece.copy_(weights)
        # The mean of the keys, weighted by exp(anchor · key), is the gradient.
        ctx.save_for_backward(_weighted_sum(products, keys) / total.clamp_min(float32.tiny)[:, None])
        return torch.where(total > 0, shift + total.log(), float32.min)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (mean,) = ctx.saved_tensors
        return gradient[:, None] * mean, None, None, None


def _shift(products: Tensor, anchors: Tensor) -> Tensor:
    """What is taken off each anchor's products before exp, so that it neither overflows nor gives nothing but zeros.

    In float16 the largest product. Numbers of eight bits of exponent reach from e^-87 to e^88, so that it may be
    guessed from some of the keys; no product is larger than the anchor is long.
    """
    if products.dtype == torch.float16:
        return products.amax(0).float()
    return torch.minimum(products[:CHUNK].amax(0).float() + 60, anchors.norm(dim=-1))


def _weighted_sum(weights: Tensor, keys: Tensor) -> Tensor:
    """`weights.T @ keys` for `[m, n]` and `[m, features]`: `[n, features]`, float32."""
    even = len(keys) // PARTS * PARTS
    ours, theirs = (each[:even].unflatten(0, (PARTS, even // PARTS)) for each in (weights, keys))
    summed = torch.bmm(ours.transpose(1, 2), theirs).float().sum(0)
    return summed + (weights[even:].T @ keys[even:]).float()


def _places(key_ids: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Small numbers in place of ids: equal for keys and anchors of the same text.

    Returns:
        `[m]` of the keys, and `[n]` of the anchors, float32, which compares fastest.
    """
    known = ids.sort().values
    places = torch.searchsorted(known, key_ids)
    is_known = known[places.clamp_max(len(known) - 1)] == key_ids
    return torch.where(is_known, places, len(known)).float(), torch.searchsorted(known, ids).float()
