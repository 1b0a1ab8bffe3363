"""What a process does with memory: limits on what long runs accumulate, and what is kept between steps."""

import ctypes
import gc
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# Options of mallopt(3), from malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
_LARGEST_INT = 2**31 - 1


def bound_kernel_cache() -> None:
    """Limit oneDNN's cache to 16 kernels instead of 1,024, unless the user has set the limit.

    For long runs on the CPU. Must be called before the first computation, since oneDNN reads the limit only once.
    Nearly every batch has new shapes and so needs new kernels of about 10 kB, which fragment the heap: a process that
    trains on chunk after chunk grows by 60 MB every 200 batches. With the limit, kernels are rebuilt when shapes
    recur, which costs up to 5 % of a run in bfloat16 and nothing in float32. PyTorch has no function for the limit:
    https://uxlfoundation.github.io/oneDNN/dev_guide_primitive_cache.html
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")


def release_memory() -> None:
    """Return the memory that a run has freed to the operating system.

    A Trainer holds reference cycles, so only the garbage collector frees it. glibc keeps the fragments of heap that
    batches of many sizes leave.
    """
    gc.collect()
    if libc := _glibc():
        libc.malloc_trim(0)


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keep the memory that the main thread frees in the process until the block ends.

    For training on the CPU. A step frees its gradients, and the next one allocates them again. glibc would get such
    large blocks from the operating system each time, and the system zeroes their pages on first use.

    Only on Linux with glibc, and not if an environment variable sets up malloc (mallopt(3)). Afterwards, glibc has the
    thresholds that its own adjustment would end with; settings by a caller's own `mallopt` are lost. Blocks may not be
    nested: the end of the inner one would end the outer one.
    """
    libc = _glibc()
    if libc is None or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        yield
        return
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, _LARGEST_INT)
    libc.mallopt(_TOP_PAD, 64 * 2**20)
    try:
        yield
    finally:
        # The defaults, with the largest thresholds that glibc itself would come to.
        libc.mallopt(_MMAP_MAX, 65_536)
        libc.mallopt(_MMAP_THRESHOLD, 32 * 2**20)
        libc.mallopt(_TRIM_THRESHOLD, 64 * 2**20)
        libc.mallopt(_TOP_PAD, 128 * 2**10)
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library, if it is glibc, the only one with these calls."""
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
