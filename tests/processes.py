"""Running a command in a process of its own."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

TIMEOUT = 900  # seconds


def run(command: Sequence[object], environment: dict[str, str] | None = None, folder: str | Path | None = None) -> str:
    """Run `command` to its end and return what it wrote to stdout; a failure shows all that it wrote.

    After a quarter of an hour it is taken for hung.

    Args:
        command: made into strings.
        environment: all of the process's environment; default: this process's.
        folder: to run in; default: this process's.
    """
    done = subprocess.run(
        list(map(str, command)), env=environment, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
