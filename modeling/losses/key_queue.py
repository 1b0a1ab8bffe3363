"""The keys of past steps, as further negatives of a contrastive loss (He et al. 2020, MoCo, arXiv:1911.05722)."""

from __future__ import annotations

import torch
from torch import Tensor


class KeyQueue:
    """Holds the newest keys on one device, oldest overwritten first.

    Keys of a frozen teacher never go stale, so a queue may be as long as memory and corpus allow.

    Args:
        size: keys at most.
        width: features of a key.
        dtype: in which keys are stored; half precision halves the memory.
        device: where they are stored.
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
        """Keys at most."""
        return len(self._keys)

    @property
    def keys(self) -> Tensor:
        """`[len, width]`, in no particular order; a view of what is stored."""
        return self._keys[: len(self)]

    @property
    def ids(self) -> Tensor:
        """`[len]`, what each key is of."""
        return self._ids[: len(self)]

    @torch.no_grad()
    def push(self, keys: Tensor, ids: Tensor) -> None:
        """Store keys; of more than fit, the last ones.

        Args:
            keys: `[n, width]`.
            ids: `[n]`, integers; equal for keys of the same sentence.
        """
        size = self.size
        self.pushed += max(len(keys) - size, 0)
        keys, ids = keys[-size:], ids[-size:]
        start = self.pushed % size
        until_end = min(len(keys), size - start)
        for stored, new in ((self._keys, keys), (self._ids, ids)):
            stored[start : start + until_end] = new[:until_end]
            stored[: len(new) - until_end] = new[until_end:]
        self.pushed += len(keys)

    def state_dict(self) -> dict[str, Tensor]:
        """All that makes it: `keys`, `ids` and `pushed`."""
        return {"keys": self._keys, "ids": self._ids, "pushed": torch.tensor(self.pushed)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Become what another queue was.

        Raises:
            ValueError: that was of another size or width.
        """
        if state["keys"].shape != self._keys.shape:
            raise ValueError(
                f"The saved queue holds {list(state['keys'].shape)} numbers, this one {list(self._keys.shape)}. Resume "
                "with the queue_size and the teacher of the run that was interrupted."
            )
        self._keys.copy_(state["keys"])
        self._ids.copy_(state["ids"])
        self.pushed = int(state["pushed"])
