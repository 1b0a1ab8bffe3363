"""Chooses the size of chunks in long computations: a share of the memory that is available to a process.

The size is a power of two and a share of the total memory, not of the free memory. So a resumed run sums the same
chunks, and its weights are bitwise those of an uninterrupted run.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import psutil
import torch
from accelerate.utils import get_int_from_env

# Losses hold about five tensors of a chunk's size at a time (two models' logits, softmax, loss, gradient): 4 % in all.
_SHARE = 128
# Limits of a chunk in numbers. Below 32 MB, adding up gradients dominates the time. Above 128 MB nothing gets faster on
# a CPU (a vocabulary of 120,000 at 512 positions, one thread, chunks of 32, 128 and 512 MB: 2.9, 2.4 and 2.5 s of
# cross-entropy; 4.1, 4.5 and 5.1 s of a divergence).
_LEAST, _MOST_ON_A_PROCESSOR = 2**23, 2**25
_BYTES = 4  # size of a float32 number
# Variables in which launchers store the number of ranks on a machine: torchrun and accelerate, DeepSpeed, MPI.
_LOCAL_RANKS = ["LOCAL_WORLD_SIZE", "LOCAL_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"]


@lru_cache
def max_chunk_numel(device: torch.device) -> int:
    """Maximal number of float32 numbers in the largest tensor of a chunk."""
    share = max(_LEAST, 2 ** (memory_of(device) // (_SHARE * _BYTES)).bit_length() // 2)
    return min(share, _MOST_ON_A_PROCESSOR) if device.type == "cpu" else share


def memory_of(device: torch.device) -> int:
    """Bytes of memory, used or free, that are available to one process of a run.

    On a GPU this is its total memory. On a CPU it is the memory of the machine, or the limit of the control group (of
    a container) if that is less, divided by the number of ranks on this machine.
    """
    if device.type != "cpu":
        return torch.get_device_module(device).get_device_properties(device).total_memory
    whole = min([psutil.virtual_memory().total, *_group_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])
    return whole // get_int_from_env(_LOCAL_RANKS, 1)


def _group_limits(membership: Path, root: Path) -> Iterator[int]:
    """Memory limits, in bytes, of a process's control group and its parents, for cgroup versions 1 and 2.

    Args:
        membership: the file that lists the process's groups, `number:controllers:path` in each line.
        root: folder of the control groups.
    """
    lines = membership.read_text().splitlines() if membership.is_file() else []
    for _, controllers, own in (line.split(":", 2) for line in lines):
        if controllers and "memory" not in controllers.split(","):
            continue
        top, file = (root / "memory", "memory.limit_in_bytes") if controllers else (root, "memory.max")
        folder = top / own.lstrip("/")
        # In a container the path may be the host's, of which only the root is visible.
        for place in (folder, *folder.parents):
            if place.is_relative_to(top) and (place / file).is_file():
                limit = (place / file).read_text().strip()
                if limit != "max":
                    yield int(limit)
