"""What a run has freed goes back to the system, and kernels don't pile up."""

import gc
import os
import platform
import weakref
from pathlib import Path

import pytest
import tiny
from datasets import Dataset
from transformers import TrainerCallback

from retort import DistillTrainer, shrink, tokenize
from retort.modeling import keep_freed_memory
from retort.trainers import bound_kernel_cache
from retort.trainers.stages import release_memory

# The C libraries of macOS, Windows and musl have no such calls: there is nothing to test.
on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_trim and mallopt are glibc's")


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


@on_glibc
def test_a_heap_that_was_torn_to_pieces_shrinks_again():
    pieces = [bytes(8_000 + index % 1_000) for index in range(20_000)]
    keep = pieces[::200]  # a few of them pin the heap's end
    full = resident()
    del pieces
    release_memory()
    assert resident() < full - 100
    assert len(keep) == 100


LARGE = 40 * 2**20


def kept_of_a_large_block() -> bool:
    """Whether a large block that is freed stays in this process."""
    before = resident()
    block = bytearray(LARGE)
    assert resident() > before + 30
    del block
    return resident() > before + 30


@pytest.fixture
def as_it_is(monkeypatch):
    """No choice of the user's about malloc."""
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_TUNABLES"))]:
        monkeypatch.delenv(name)


@on_glibc
def test_freed_memory_is_kept_until_the_block_ends(as_it_is, monkeypatch):
    release_memory()
    before = resident()
    with keep_freed_memory():
        assert kept_of_a_large_block()
    assert resident() < before + 30
    assert not kept_of_a_large_block()
    with pytest.raises(KeyError), keep_freed_memory():
        raise KeyError
    assert not kept_of_a_large_block()
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    with keep_freed_memory():
        assert not kept_of_a_large_block(), "a user's own choice is not respected"


@on_glibc
def test_training_on_the_cpu_keeps_freed_memory(as_it_is, tmp_path):
    seen = []

    class Look(TrainerCallback):
        def on_step_end(self, *arguments, **named):
            seen.append(kept_of_a_large_block())

    tokenizer = tiny.tokenizer()
    rows = tokenize(Dataset.from_dict({"text": tiny.sentences(8)}), tokenizer)
    args = tiny.arguments(tmp_path, embedding_weight=1.0, max_steps=1)
    teacher = tiny.model()
    student = shrink(teacher, layers=1)
    given = {"train_dataset": rows, "processing_class": tokenizer, "callbacks": [Look()]}
    trainer = DistillTrainer(student, teacher, args, **given)
    trainer.train()
    assert seen == [True]
    assert not kept_of_a_large_block()


@pytest.mark.parametrize(("before", "after"), [(None, "16"), ("7", "7")])
def test_few_kernels_are_kept_unless_the_user_says_how_many(monkeypatch, before, after):
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    monkeypatch.setenv(name, before or "")  # so that what the function sets is undone, too
    if before is None:
        monkeypatch.delenv(name)
    bound_kernel_cache()
    assert os.environ[name] == after
