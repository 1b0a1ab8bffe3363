"""Ranks that are forked, killed at a moment or before a file operation, and waited for."""

import faulthandler
import os
import signal
import socket
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

KILLED = -9
HUNG = 600  # seconds after which a run is taken for hung
FILE_EVENTS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"}


@dataclass(frozen=True)
class Kill:
    """When a run is killed: so many seconds after its start, or before one rank's file operation of this number."""

    seconds: float | None = None
    rank: int = 0
    operation: int | None = None


def watch_files(folder: Path, operation: int | None) -> Counter:
    """Count this process's file operations in a folder, and end it without warning before one of them."""
    seen, prefix = Counter(), str(folder)

    def hook(event: str, arguments: tuple) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in FILE_EVENTS) and str(arguments[0]).startswith(prefix):
            seen["operations"] += 1
            if seen["operations"] == operation:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return seen


def free_port() -> int:
    """A port for ranks to meet at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_rank(work: Callable[[], None], folder: Path, rank: int, world: int, port: int, kill: Kill | None) -> int:
    """Fork a rank that does its work; returns its process id."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        log = os.open(folder.with_suffix(f".{rank}.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(log, stream)
        faulthandler.dump_traceback_later(0.9 * HUNG)  # a rank that hangs tells where
        if world > 1:
            told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
            told |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            os.environ.update({name: str(value) for name, value in told.items()})
        seen = watch_files(folder, kill.operation if kill and kill.rank == rank else None)
        work()
        folder.with_suffix(f".{rank}.operations").write_text(str(seen["operations"]))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def run(work: Callable[[], None], folder: Path, world: int, kill: Kill | None = None) -> tuple[list[int], float]:
    """Run all ranks until they have ended or are killed; returns their exit codes (-9: killed) and the seconds."""
    port, start = free_port(), time.monotonic()
    running = {start_rank(work, folder, rank, world, port, kill): rank for rank in range(world)}
    codes, limit = [0] * world, start + (kill.seconds if kill and kill.seconds else HUNG)
    while running:
        process, status = os.waitpid(-1, os.WNOHANG)
        if process:
            codes[running.pop(process)] = os.waitstatus_to_exitcode(status)
        died = any(codes)
        if died or time.monotonic() > limit:
            for each in running:
                os.kill(each, signal.SIGKILL)
            for each, rank in running.items():
                codes[rank] = os.waitstatus_to_exitcode(os.waitpid(each, 0)[1])
            running = {}
        time.sleep(0 if process else 0.002)
    return codes, time.monotonic() - start
