"""Arguments of `retort env`."""

import argparse
from typing import Any

from .form import new_command


def add_to(commands: Any) -> None:
    """Add the command to `retort`."""
    new_command(
        commands,
        "env",
        run,
        summary="Show versions, devices, precision and attention back end, for a bug report.",
        description="Copy the output into the bug report.",
    )


def run(options: argparse.Namespace) -> None:
    """Print the environment."""
    from ..commands import env

    env.run(options)
