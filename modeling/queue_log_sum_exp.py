"""The share of many keys in a contrastive loss, at the price of two matrix products."""

from __future__ import annotations

import torch
from torch import Tensor

# Keys whose exponentials are taken at a time: a piece that stays in a processor's cache.
CHUNK = 2048


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
        largest = products.amax(0).float()
        total = torch.zeros_like(largest)
        for piece, piece_ids in zip(products.split(CHUNK), key_ids.split(CHUNK), strict=True):
            weights = piece.float().sub_(largest).exp_().masked_fill_(piece_ids[:, None] == ids, 0)
            total += weights.sum(0)
            piece.copy_(weights)
        # The mean of the keys, weighted by exp(anchor · key), is the gradient.
        ctx.save_for_backward((products.T @ keys).float() / total.clamp_min(float32.tiny)[:, None])
        return torch.where(total > 0, largest + total.log(), float32.min)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (mean,) = ctx.saved_tensors
        return gradient[:, None] * mean, None, None, None
