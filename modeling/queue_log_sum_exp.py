"""The share of many keys in a contrastive loss, without a matrix of their similarities."""

from __future__ import annotations

import torch
from torch import Tensor

# Keys compared at a time: a piece of the similarities that stays in a processor's cache.
CHUNK = 2048


def queue_log_sum_exp(anchors: Tensor, ids: Tensor, keys: Tensor, key_ids: Tensor) -> Tensor:
    """log of the sum of exp(anchor · key) over the keys that are of another text than the anchor.

    Goes over the keys in pieces and computes the gradient along, so that neither the `[n, m]` similarities nor a copy
    of the keys is ever made. The products are taken in the keys' number format, all else in float32.

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
        lowest = torch.finfo(torch.float32).min
        columns = anchors.to(keys.dtype).T
        largest = anchors.new_full((len(anchors),), lowest)
        total = torch.zeros_like(largest)
        mean = torch.zeros_like(anchors)  # of the keys, weighted by exp(anchor · key); it is the gradient
        for piece, piece_ids in zip(keys.split(CHUNK), key_ids.split(CHUNK), strict=True):
            products = (piece @ columns).float().masked_fill_(piece_ids[:, None] == ids, lowest)
            before, largest = largest, torch.maximum(largest, products.amax(0))
            weights = products.sub_(largest).exp_()
            weights.masked_fill_(largest == lowest, 0)
            fade = (before - largest).exp()
            total = total * fade + weights.sum(0)
            mean = mean * fade[:, None] + (weights.to(keys.dtype).T @ piece).float()
        ctx.save_for_backward(mean / total.clamp_min(torch.finfo(torch.float32).tiny)[:, None])
        return torch.where(total > 0, largest + total.log(), lowest)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (mean,) = ctx.saved_tensors
        return gradient[:, None] * mean, None, None, None
