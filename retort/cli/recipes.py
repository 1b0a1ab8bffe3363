"""What `retort recipes` takes."""

import argparse
from typing import Any

from .form import new_command

DESCRIPTION = """  retort recipes
  retort recipes small_ner > mine.yaml

A recipe of your own can also begin with `extends: small_ner` and hold what differs."""


def add_to(commands: Any) -> None:
    """Add the command to `retort`."""
    parser = new_command(
        commands,
        "recipes",
        run,
        summary="List the recipes that come with retort, or print one.",
        description=DESCRIPTION,
    )
    parser.add_argument("recipe", nargs="?", metavar="NAME", help="print this one, as YAML")


def run(options: argparse.Namespace) -> None:
    """List or print."""
    from ..commands import recipes

    recipes.run(options)
