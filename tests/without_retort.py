"""Python as the user of a student has it: retort can't be imported."""

import sys
import tempfile

from processes import run

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
        command = [sys.executable, "-I", "-c", PREAMBLE + code, *arguments]
        return run(command, environment, folder=empty)
