"""The means that a trainer logs."""

import torch
from accelerate import Accelerator
from torch import Tensor


class RunningMeans:
    """Means of named values since they were last taken.

    Sums and counts stay on the device, since to read them is to wait for it.
    """

    def __init__(self):
        self._totals: dict[str, Tensor] = {}

    def add(self, name: str, total: Tensor, count: int | Tensor) -> None:
        """Add `count` values whose sum, a scalar, is `total`."""
        entry = torch.stack([total.detach(), torch.as_tensor(count, dtype=total.dtype, device=total.device)])
        self._totals[name] = self._totals[name] + entry if name in self._totals else entry

    def take(self, accelerator: Accelerator) -> dict[str, float]:
        """The means over all ranks, each of which must come here; and begin anew."""
        if not self._totals:
            return {}
        sums = accelerator.reduce(torch.stack(list(self._totals.values())), reduction="sum")
        means = (sums[:, 0] / sums[:, 1].clamp_min(1)).tolist()
        names, self._totals = list(self._totals), {}
        return dict(zip(names, means, strict=True))
