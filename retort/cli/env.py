"""What `retort env` takes."""

import argparse
from typing import Any

from .form import new_command


def add_to(commands: Any) -> None:
    """Add the command to `retort`."""
    new_command(
        commands,
        "env",
        run,
        summary="Show what a bug report needs: versions, devices, precision, attention back end.",
        description="Copy what it prints into the report.",
    )


def run(options: argparse.Namespace) -> None:
    """Print."""
    from ..commands import env

    env.run(options)
