"""Running a script in a process of its own, as `python script ...` would, but for the imports that it finds done."""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import transformers
from forked import context
from processes import TIMEOUT, run
from ranks import free_port


def run_script(script: str | Path, *arguments: object, environment: Mapping[str, str] | None = None) -> str:
    """Run `script` to its end and return what it wrote to stdout; a failure shows all that it wrote.

    After a quarter of an hour it is taken for hung.

    Args:
        script: a file of Python.
        arguments: of its command line, made into strings.
        environment: beside this process's.
    """
    with tempfile.TemporaryDirectory() as folder:
        streams = {1: f"{folder}/stdout", 2: f"{folder}/stderr"}
        command, variables = [str(script), *map(str, arguments)], {**os.environ, **(environment or {})}
        process = context.Process(target=_as_main, args=(command, variables, streams, list(sys.path)))
        process.start()
        process.join(TIMEOUT)
        if process.is_alive():
            process.kill()
            process.join()
        printed, complained = (Path(file).read_text(encoding="utf-8", errors="replace") for file in streams.values())
        assert process.exitcode == 0, printed + complained
        return printed


def run_command(*arguments: object, environment: Mapping[str, str] | None = None) -> str:
    """As `run_script`, of the command `retort`."""
    return run_script(Path(__file__).parents[1] / "retort/__main__.py", *arguments, environment=environment)


def run_under_deepspeed(script: str | Path, *arguments: object) -> str:
    """Run `script` on two ranks by the deepspeed launcher; what is returned or raised is as of `run_script`."""
    launcher = Path(sys.executable).with_name("deepspeed"), "--num_accelerators=2", f"--master_port={free_port()}"
    return run([*launcher, Path(__file__).with_name("launched.py"), script, *arguments])


def _as_main(command: list[str], variables: dict[str, str], streams: dict[int, str], path: list[str]) -> None:
    for number, file in streams.items():
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(variables)
    transformers.logging.set_verbosity_warning()  # as after an import
    sys.argv, sys.path[:] = command, [str(Path(command[0]).parent), *path]
    runpy.run_path(command[0], run_name="__main__")
