"""Runs a recipe."""

import argparse
from dataclasses import replace

from ..recipes import read_recipe, run_recipe


def run(options: argparse.Namespace) -> None:
    """Read the recipe with the changes of the command line and run it."""
    recipe = read_recipe(options.recipe, options.changes)
    if options.push_to_hub:
        recipe = replace(recipe, push_to_hub=options.push_to_hub)
    run_recipe(recipe, dry_run=options.dry_run, only=options.only)
