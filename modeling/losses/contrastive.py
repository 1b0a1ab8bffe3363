"""InfoNCE for sentence embeddings, its learnt scale, and a queue of past keys as additional negatives."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .bounded import BoundedNumber
from .chunks import max_chunk_numel

# Keys per chunk on a CPU, which fit into its cache.
CHUNK = 2048


class LearnedScale(BoundedNumber):
    """Scales vectors to a learnt length, 1/tau (CLIP, Radford et al. 2021, arXiv:2103.00020, section 2.5).

    As in CLIP it never exceeds 100, which keeps the loss stable.
    """

    bounds = 1e-4, 100.0

    def forward(self, vectors: Tensor) -> Tensor:
        """`[rows, features]` -> the same directions, float32, each of length `value`."""
        return F.normalize(vectors.float(), dim=-1) * self.value


def info_nce(
    anchors: Tensor, positives: Tensor, negatives: Sequence[tuple[Tensor, Tensor]], further: Tensor | None = None
) -> Tensor:
    """Cross-entropy of each anchor's positive among the keys (van den Oord et al. 2018, arXiv:1807.03748, eq. 4).

    Inputs:
        anchors: `[n, features]`, unit vectors times 1/tau; positives: `[n, features]`, unit vectors, one per anchor.
        negatives: sets of unit vectors `[m, features]`, each with a mask `[n, m]` that is True where a key is not a
            negative of an anchor: its own positive, or the positive of an anchor with the same sentence.
        further: `[n]`, the log of the sum of exp(anchor · key) over additional keys (see `queue_log_sum_exp`).

    Returns:
        `[n]`, at least 0; 0 for an anchor without negatives.
    """
    anchors, lowest = anchors.float(), torch.finfo(torch.float32).min
    positive = (anchors * positives.float()).sum(-1)
    total = positive if further is None else torch.logaddexp(positive, further)
    for keys, ignored in negatives:
        # Not minus infinity, whose gradient is NaN if every key is ignored.
        total = torch.logaddexp(total, (anchors @ keys.float().T).masked_fill(ignored, lowest).logsumexp(-1))
    return total - positive


class KeyQueue:
    """Holds the newest keys on one device. New keys overwrite the oldest ones.

    Keys of a frozen teacher never become stale, so a queue can be as long as memory and corpus allow.

    Args:
        size: maximal number of keys.
        width: features of a key.
        dtype: dtype in which keys are stored; half precision halves the memory.
        device: device on which keys are stored.
    """

    def __init__(
        self, size: int, width: int, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ):
        self._keys = torch.zeros(size, width, dtype=dtype, device=device)
        self._ids = torch.zeros(size, dtype=torch.long, device=device)
        self.pushed = 0

    def __len__(self) -> int:
        return min(self.pushed, self.size)

    @property
    def size(self) -> int:
        """Maximal number of keys."""
        return len(self._keys)

    @property
    def keys(self) -> Tensor:
        """`[len, width]`, in no particular order; a view of the stored keys."""
        return self._keys[: len(self)]

    @property
    def ids(self) -> Tensor:
        """`[len]`, the id of each key's sentence."""
        return self._ids[: len(self)]

    @torch.no_grad()
    def push(self, keys: Tensor, ids: Tensor) -> None:
        """Store keys `[n, width]`, or the last `size` of them. Keys of the same sentence have equal `ids` `[n]`."""
        size = self.size
        self.pushed += max(len(keys) - size, 0)
        keys, ids = keys[-size:], ids[-size:]
        places = torch.arange(self.pushed, self.pushed + len(keys), device=self._ids.device) % size
        self._keys[places], self._ids[places] = keys.to(self._keys), ids.to(self._ids)
        self.pushed += len(keys)

    def state_dict(self) -> dict[str, Tensor]:
        """The complete state: `keys`, `ids` and `pushed`."""
        return {"keys": self._keys, "ids": self._ids, "pushed": torch.tensor(self.pushed)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore a saved state. Raises a ValueError if its size or width differs."""
        if state["keys"].shape != self._keys.shape:
            raise ValueError(
                f"The saved queue holds {list(state['keys'].shape)} numbers, this one {list(self._keys.shape)}. Resume "
                "with the queue_size and the teacher of the run that was interrupted."
            )
        self._keys.copy_(state["keys"])
        self._ids.copy_(state["ids"])
        self.pushed = int(state["pushed"])


def queue_log_sum_exp(anchors: Tensor, ids: Tensor, keys: Tensor, key_ids: Tensor) -> Tensor:
    """log of the sum of exp(anchor · key) over the keys whose text is not the anchor's.

    Keys are read in chunks, whose sums are combined as in Milakov & Gimelshein 2018 (arXiv:1805.02867). So neither all
    products nor a float32 copy of all keys is held in memory. The gradient is computed in the same pass. Products and
    sums are in float32 whatever the keys' dtype, also under autocast: for anchors of length 200 (tau = 0.005),
    products in bfloat16 would have an error of 0.4.

    Inputs:
        anchors: `[n, features]`, float32, unit vectors times 1/tau; ids: `[n]`, the id of each anchor's text.
        keys: `[m, features]`, unit vectors, which get no gradient; key_ids: `[m]`, the id of each key's text.

    Returns:
        `[n]`; the lowest float32 number for an anchor if no key has another text.
    """
    return _QueueLogSumExp.apply(anchors, ids, keys, key_ids)


class _QueueLogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, anchors: Tensor, ids: Tensor, keys: Tensor, key_ids: Tensor) -> Tensor:
        anchors, lowest = anchors.float(), torch.finfo(torch.float32).min
        owners, own = _places(key_ids, ids)
        chunk = _keys_per_chunk(len(anchors), keys)
        # shift is the largest product so far. total and summed are the sums of exponentials and of keys weighted by
        # them, both divided by exp(shift).
        shift = anchors.new_full((len(anchors),), lowest)
        total, summed = torch.zeros_like(shift), torch.zeros_like(anchors)
        with torch.autocast(keys.device.type, enabled=False):
            for some, their_owners in zip(keys.split(chunk), owners.split(chunk), strict=True):
                some = some.float()
                # An anchor's own keys are masked before the maximum is taken: their large products would make the
                # exponentials of all other keys 0.
                products = (anchors @ some.T).masked_fill_(own[:, None] == their_owners, -torch.inf)
                larger = torch.maximum(shift, products.amax(1))
                weights, fade = products.sub_(larger[:, None]).exp_(), (shift - larger).exp_()
                total = total * fade + weights.sum(1)
                summed = torch.addmm(summed * fade[:, None], weights, some)
                shift = larger
        # The gradient is the mean of the keys, weighted by exp(anchor · key).
        ctx.save_for_backward(summed / total.clamp_min(torch.finfo(torch.float32).tiny)[:, None])
        return torch.where(total > 0, shift + total.log(), lowest)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (mean,) = ctx.saved_tensors
        return gradient[:, None] * mean, None, None, None


def _keys_per_chunk(anchors: int, keys: Tensor) -> int:
    """Number of keys whose products with all anchors and float32 copies are held at a time."""
    chunk = max(1, max_chunk_numel(keys.device) // max(anchors, keys.shape[1], 1))
    return min(chunk, CHUNK) if keys.device.type == "cpu" else chunk


def _places(key_ids: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Replace ids by small numbers that are equal for keys and anchors of the same text.

    Returns:
        `[m]` for the keys and `[n]` for the anchors, in float32, which is fastest to compare.
    """
    known = ids.sort().values
    places = torch.searchsorted(known, key_ids)
    is_known = known[places.clamp_max(len(known) - 1)] == key_ids
    return torch.where(is_known, places, len(known)).float(), torch.searchsorted(known, ids).float()
