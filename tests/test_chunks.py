"""How much is computed at a time: by the memory that there is, whatever is free of it."""

from types import SimpleNamespace

import pytest
import torch

from retort.modeling.losses import chunks, contrastive, queue_log_sum_exp

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)
GIB = 2**30


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine of 64 GiB without limits, most of it in use, for one rank."""
    chunks.max_chunk_numel.cache_clear()
    for name in chunks._LOCAL_RANKS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(chunks.psutil, "virtual_memory", lambda: SimpleNamespace(total=64 * GIB, available=GIB))
    monkeypatch.setattr(chunks, "_group_limits", lambda *_: iter(()))
    yield monkeypatch
    chunks.max_chunk_numel.cache_clear()


def test_a_chunk_is_a_share_of_all_memory_and_a_power_of_two(machine):
    assert chunks.memory_of(CPU) == 64 * GIB
    # 1/128 of 8 GiB, in numbers of 4 bytes; at least 2**23, at most 2**25.
    for total, expected in ((8, 2**24), (7.9, 2**23), (9, 2**24), (0.5, 2**23), (17, 2**25), (64, 2**25)):
        chunks.max_chunk_numel.cache_clear()
        machine.setattr(chunks.psutil, "virtual_memory", lambda total=total: SimpleNamespace(total=int(total * GIB)))
        assert chunks.max_chunk_numel(CPU) == expected


@pytest.mark.parametrize("name", ["LOCAL_WORLD_SIZE", "LOCAL_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"])
def test_ranks_of_a_machine_share_its_memory(name, machine):
    machine.setenv(name, "4")
    assert chunks.memory_of(CPU) == 16 * GIB


def test_a_container_has_what_its_limit_allows(machine):
    machine.setattr(chunks, "_group_limits", lambda *_: iter((2**63 - 4096, 8 * GIB)))
    machine.setenv("LOCAL_WORLD_SIZE", "2")
    assert chunks.memory_of(CPU) == 4 * GIB


def test_a_rank_has_its_gpu_for_itself(machine):
    asked = []

    def properties(device):
        asked.append(device)
        return SimpleNamespace(total_memory=80 * GIB)

    machine.setattr(torch, "get_device_module", lambda _: SimpleNamespace(get_device_properties=properties))
    machine.setenv("LOCAL_WORLD_SIZE", "8")
    assert chunks.max_chunk_numel(GPU) == 2**27
    assert asked == [GPU]


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_limits_are_those_of_a_process_group_and_of_all_groups_around_it(tmp_path, monkeypatch):
    monkeypatch.undo()
    membership, root = tmp_path / "cgroup", tmp_path / "groups"

    def limits(text):
        written(membership, text)
        return sorted(chunks._group_limits(membership, root))

    assert list(chunks._group_limits(tmp_path / "nothing", root)) == []
    written(root / "a/b/memory.max", "3000\n")
    written(root / "a/memory.max", "max\n")
    written(root / "memory.max", "5000\n")
    written(root / "elsewhere/memory.max", "1\n")
    assert limits("0::/a/b\n") == [3000, 5000]
    assert limits("0::/of/the/host\n") == [5000]
    written(root / "memory/a/memory.limit_in_bytes", "4000\n")
    written(root / "memory/memory.limit_in_bytes", "6000\n")
    assert limits("4:cpu,memory:/a\n3:cpuset:/a/b\n") == [4000, 6000]


@pytest.mark.parametrize(("numbers", "expected"), [(2**23, 2048), (4096, 4), (1, 1)])
def test_a_queue_is_read_by_as_many_keys_as_fit(numbers, expected, machine):
    machine.setattr(contrastive, "max_chunk_numel", lambda _: numbers)
    generator = torch.Generator().manual_seed(0)
    anchors, keys = torch.randn(1024, 8, generator=generator), torch.randn(64, 8, generator=generator)
    assert contrastive._keys_per_chunk(len(anchors), keys) == expected
    some, ids = anchors[:16].requires_grad_(), torch.arange(16)
    found = queue_log_sum_exp(some, ids, keys, torch.arange(16, 80))
    torch.testing.assert_close(found.double(), (some.double() @ keys.double().T).logsumexp(-1), rtol=1e-5, atol=1e-5)
