"""Python as the user of a student has it: retort can't be imported."""

import os
import subprocess
import sys
import tempfile

# None in sys.modules makes `import retort` fail, installed or not.
PREAMBLE = "import sys; sys.modules['retort'] = None\n"


def run_without_retort(code: str, *arguments: object, environment: dict[str, str] | None = None) -> str:
    """Run `code` in a process of its own that can't import retort, in an empty directory.

    Args:
        code: Python; its arguments are `sys.argv[1:]`.
        arguments: made into strings.
        environment: all of the process's environment; default: this process's.

    Returns:
        What it wrote to stdout.
    """
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            [sys.executable, "-I", "-c", PREAMBLE + code, *map(str, arguments)],
            cwd=empty,
            env=dict(os.environ) if environment is None else environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
