"""Distil by a recipe: a YAML file that names teacher, student, data, stages and evaluation.

python examples/run_recipe.py quickstart [--teacher ...] [--output_dir ...] [--dry_run]

A run that was killed goes on where it was when it is started again: finished stages are skipped, an interrupted one is
resumed at its step. A stage that was changed in the recipe, and all that follow it, are run anew.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from retort.commands import plain_parser
from retort.recipes import Recipe, packaged_recipes, read_recipe, run_recipe


def main() -> None:
    """Run the recipe named on the command line."""
    options = parse_options()
    run_recipe(changed(read_recipe(options.recipe), options), dry_run=options.dry_run)


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = plain_parser(__doc__)
    parser.add_argument("recipe", help=f"a YAML file, or the name of one of retort's: {', '.join(packaged_recipes())}")
    parser.add_argument("--teacher", help="another teacher: a hub id or a folder")
    parser.add_argument("--output_dir", help="where to write (default: as the recipe says)")
    parser.add_argument("--seed", type=int, help="of the student's stages (default: as the recipe says, or 42)")
    parser.add_argument("--dry_run", action="store_true", help="show the stages, and what each would train, and stop")
    parser.add_argument("--push_to_hub", metavar="ID", help="push the finished student to this hub id")
    return parser.parse_args()


def changed(recipe: Recipe, options: argparse.Namespace) -> Recipe:
    """The recipe with what the command line says in place of its own."""
    if options.teacher:
        recipe = recipe.with_teacher(options.teacher)
    if options.output_dir:
        recipe = replace(recipe, output_dir=options.output_dir)
    if options.push_to_hub:
        recipe = replace(recipe, push_to_hub=options.push_to_hub)
    return recipe if options.seed is None else recipe.with_seed(options.seed)


if __name__ == "__main__":
    main()
