"""How much of a long computation is done at a time: a share of the memory that a process has to itself.

It is a share of all memory, not of what is free at the moment, and a power of two: so a resumed run adds up the same
chunks, and its weights are bitwise those of a run that was never interrupted.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import psutil
import torch
from accelerate.utils import get_int_from_env

# Losses hold about five tensors of a chunk's size at a time (logits of two sides, softmax, loss, gradient): 4 % in all.
_SHARE = 128
# Numbers of a chunk at the least, 32 MB: below that, the time goes into adding up gradients. On a processor 128 MB at
# the most, above which nothing gets faster (a vocabulary of 120,000 at 512 places, one thread, chunks of 32, 128 and
# 512 MB: 2.9, 2.4 and 2.5 s of cross-entropy; 4.1, 4.5 and 5.1 s of a divergence).
_LEAST, _MOST_ON_A_PROCESSOR = 2**23, 2**25
_BYTES = 4  # of a number in float32
# Where launchers say how many ranks a machine runs: torchrun and accelerate, DeepSpeed, MPI.
_LOCAL_RANKS = ["LOCAL_WORLD_SIZE", "LOCAL_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"]


@lru_cache
def numbers_at_a_time(device: torch.device) -> int:
    """How many float32 numbers the largest tensor of a chunk may have on a device."""
    share = max(_LEAST, 2 ** (memory_of(device) // (_SHARE * _BYTES)).bit_length() // 2)
    return min(share, _MOST_ON_A_PROCESSOR) if device.type == "cpu" else share


def memory_of(device: torch.device) -> int:
    """Bytes of memory, used or not, that one process of a run can count on.

    Of a GPU all that it has. Of a processor what the machine has, or the control group (a container's limit) allows if
    that is less, divided by the ranks of this machine.
    """
    if device.type != "cpu":
        return torch.get_device_module(device).get_device_properties(device).total_memory
    whole = min([psutil.virtual_memory().total, *_group_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])
    return whole // get_int_from_env(_LOCAL_RANKS, 1)


def _group_limits(membership: Path, root: Path) -> Iterator[int]:
    """The limits of a process's control groups, its own and those around it, in bytes; of version 1 and of version 2.

    Args:
        membership: the file that lists the process's groups, `number:controllers:path` in each line.
        root: where the groups' folders lie.
    """
    lines = membership.read_text().splitlines() if membership.is_file() else []
    for _, controllers, own in (line.split(":", 2) for line in lines):
        if controllers and "memory" not in controllers.split(","):
            continue
        top, file = (root / "memory", "memory.limit_in_bytes") if controllers else (root, "memory.max")
        folder = top / own.lstrip("/")
        # In a container the path may be that of the host, of which only the root can be seen.
        for place in (folder, *folder.parents):
            if place.is_relative_to(top) and (place / file).is_file():
                limit = (place / file).read_text().strip()
                if limit != "max":
                    yield int(limit)
