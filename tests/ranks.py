"""Running a function on several ranks: with what `forked` has imported, two cost seconds, not half a minute."""

from __future__ import annotations

import faulthandler
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing.connection import wait

from forked import context

KILLED = -9


def run_on_ranks(function: Callable, world: int, timeout: float = 90, **arguments) -> list[int]:
    """Call `function(**arguments)` on `world` ranks under gloo and return their exit codes.

    As a launcher would, it ends the other ranks as soon as one has died.
    """
    port = free_port()
    ranks = [
        context.Process(target=_rank, args=(rank, world, port, timeout, function, arguments, list(sys.path)))
        for rank in range(world)
    ]
    for process in ranks:
        process.start()
    running = {process.sentinel: process for process in ranks}
    while running:
        ended = wait(running, timeout)
        died = not ended or any(running[sentinel].exitcode for sentinel in ended)
        for sentinel in ended:
            running.pop(sentinel).join()
        if died:
            for process in running.values():
                process.kill()
    for process in ranks:
        process.join()
    return [process.exitcode for process in ranks]


def free_port() -> int:
    """A port for ranks to meet at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _rank(
    rank: int, world: int, port: int, timeout: float, function: Callable, arguments: dict, path: list[str]
) -> None:
    sys.path[:] = path
    faulthandler.dump_traceback_later(0.9 * timeout)  # a rank that hangs tells where
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world),
        LOCAL_WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        # accelerate sets torch's threads by this, and else to all cores, where they would wait for each other.
        OMP_NUM_THREADS="1",
        # All ranks compute on the CPU: two can't share a GPU under NCCL, and FSDP2 takes any GPU that it sees.
        RETORT_TEST_DEVICE="cpu",
        CUDA_VISIBLE_DEVICES="",
    )
    function(**arguments)
