"""The means that a trainer logs."""

import torch
from accelerate import Accelerator
from torch import Tensor


def on_device(number: int | Tensor, device: torch.device | str) -> Tensor:
    """A number as a scalar on a device. It is written there; a copy would wait for the device to have taken it."""
    return number if isinstance(number, Tensor) else torch.full((), number, device=device)


class RunningMeans:
    """Means of named values since they were last taken.

    Sums and counts stay on the device, since to read them is to wait for it.
    """

    def __init__(self):
        self._totals: dict[str, Tensor] = {}
        self._counts: dict[str, int | Tensor] = {}

    def add(self, name: str, total: Tensor, count: int | Tensor) -> None:
        """Add `count` values whose sum, a scalar, is `total`."""
        self._totals[name] = self._totals[name] + total.detach() if name in self._totals else total.detach()
        self._counts[name] = self._counts.get(name, 0) + count

    def take(self, accelerator: Accelerator) -> dict[str, float]:
        """The means over all ranks, each of which must come here; and begin anew."""
        if not self._totals:
            return {}
        totals = torch.stack(list(self._totals.values()))
        counts = torch.stack([on_device(count, totals.device) for count in self._counts.values()])
        sums = accelerator.reduce(torch.stack([totals, counts.to(totals.dtype)]), reduction="sum")
        means = (sums[0] / sums[1].clamp_min(1)).tolist()
        names, self._totals, self._counts = list(self._totals), {}, {}
        return dict(zip(names, means, strict=True))
