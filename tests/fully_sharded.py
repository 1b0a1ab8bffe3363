"""FSDP2 on the CPU: accelerate asks for it on GPUs alone, though torch shards with gloo, too."""

from accelerate import PartialState
from accelerate.utils import DistributedType


def as_on_gpus() -> None:
    """Let accelerate take this process for a rank with a GPU. It still computes on the CPU."""
    set_up = PartialState.__init__

    def set_up_as_on_gpus(self, *arguments, **named) -> None:
        set_up(self, *arguments, **named)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self._shared_state["distributed_type"] = DistributedType.MULTI_GPU

    PartialState.__init__ = set_up_as_on_gpus
