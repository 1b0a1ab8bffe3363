"""Running means for a trainer's log."""

import torch
from accelerate import Accelerator
from torch import Tensor


def on_device(number: int | Tensor, device: torch.device | str) -> Tensor:
    """A number as a scalar tensor on a device. It is created there, since a copy would wait for the device."""
    return number if isinstance(number, Tensor) else torch.full((), number, device=device)


class RunningMeans:
    """Means of named values since the last `take`.

    Sums and counts stay on the device, since reading them would wait for it.
    """

    def __init__(self):
        self._totals: dict[str, Tensor] = {}
        self._counts: dict[str, int | Tensor] = {}

    def add(self, name: str, total: Tensor, count: int | Tensor) -> None:
        """Add `count` values with the sum `total`, a scalar tensor."""
        self._totals[name] = self._totals[name] + total.detach() if name in self._totals else total.detach()
        self._counts[name] = self._counts.get(name, 0) + count

    def take(self, accelerator: Accelerator) -> dict[str, float]:
        """Return the means over all ranks, and reset them. All ranks must call it."""
        means = self.read(accelerator)
        self._totals, self._counts = {}, {}
        return means

    def read(self, accelerator: Accelerator) -> dict[str, float]:
        """Return the means over all ranks. All ranks must call it."""
        if not self._totals:
            return {}
        totals = torch.stack(list(self._totals.values()))
        counts = torch.stack([on_device(count, totals.device) for count in self._counts.values()])
        sums = accelerator.reduce(torch.stack([totals, counts.to(totals.dtype)]), reduction="sum")
        means = (sums[0] / sums[1].clamp_min(1)).tolist()
        return dict(zip(self._totals, means, strict=True))
