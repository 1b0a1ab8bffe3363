"""Limits the memory that long runs accumulate: cached kernels and fragments of the heap."""

import ctypes
import gc
import os
import platform


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
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
