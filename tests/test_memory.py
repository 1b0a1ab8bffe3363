"""What a run has freed goes back to the system, and kernels don't pile up."""

import gc
import os
import platform
import resource
import weakref
from pathlib import Path

import pytest
import torch

from retort.modeling import keep_freed_memory
from retort.trainers import bound_kernel_cache
from retort.trainers.stages import release_memory


def resident() -> int:
    """Megabytes of this process that no file stands behind."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) // 1024


def test_what_refers_to_itself_is_collected():
    class Circle:
        pass

    circle = Circle()
    circle.itself, seen = circle, weakref.ref(circle)
    gc.disable()
    try:
        del circle
        release_memory()
        assert seen() is None
    finally:
        gc.enable()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_trim is glibc's: elsewhere there is no such call")
def test_a_heap_that_was_torn_to_pieces_shrinks_again():
    pieces = [bytes(8_000 + index % 1_000) for index in range(20_000)]
    keep = pieces[::200]  # a few of them pin the heap's end
    full = resident()
    del pieces
    release_memory()
    assert resident() < full - 100
    assert len(keep) == 100


def new_pages() -> int:
    """Pages that the system gives this process while it makes a large tensor again and again."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.zeros(40, 2**20 // 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's: elsewhere there is no such call")
def test_a_steps_gradients_are_put_where_those_of_the_last_were(monkeypatch):
    once = 40 * 2**20 // resource.getpagesize()
    with keep_freed_memory():
        new_pages()
        assert new_pages() < once / 10
    assert new_pages() > 4 * once, "the memory has not been given back"
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    with keep_freed_memory():
        assert new_pages() > 4 * once, "a user's own choice is not respected"


@pytest.mark.parametrize(("before", "after"), [(None, "16"), ("7", "7")])
def test_few_kernels_are_kept_unless_the_user_says_how_many(monkeypatch, before, after):
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    monkeypatch.setenv(name, before or "")  # so that what the function sets is undone, too
    if before is None:
        monkeypatch.delenv(name)
    bound_kernel_cache()
    assert os.environ[name] == after
