"""Memory that one run leaves to the next."""

from __future__ import annotations

import ctypes
import gc
import platform


def release_memory() -> None:
    """Give back what a run has freed, to Python and to the system.

    A Trainer refers to itself, so it stays until Python looks for circles. And glibc keeps the heap that batches of
    many sizes have torn into pieces: a process that trains on chunk after chunk would grow with each.
    """
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
