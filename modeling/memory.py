"""Memory that computations leave behind: kernels that pile up, and pieces of heap that are kept."""

import ctypes
import gc
import os
import platform


def bound_kernel_cache() -> None:
    """Let oneDNN keep 16 kernels instead of 1,024, unless the user has said how many.

    For long runs on the CPU; to be called before the first computation, since the number is read only once. Nearly
    every batch brings shapes of its own, and so kernels, some 10 kB apiece, which age in the midst of the heap and
    tear it to pieces: a process that trains on chunk after chunk grows by 60 MB with every 200 batches. The price
    is that kernels are made anew where shapes do come back: up to 5 % of a run in bfloat16, nothing in float32. There
    is no call for it:
    https://uxlfoundation.github.io/oneDNN/dev_guide_primitive_cache.html
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")


def release_memory() -> None:
    """Give back what a run has freed, to Python and to the system.

    A Trainer refers to itself, so it stays until Python looks for circles. And glibc keeps the pieces of heap that
    batches of many sizes leave behind.
    """
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
