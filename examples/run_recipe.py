"""Distil by a recipe: a YAML file that names teacher, student, data, stages and evaluation.

python examples/run_recipe.py quickstart [--teacher ...] [--output_dir ...] [--dry_run]

A run that was killed goes on where it was when it is started again: finished stages are skipped, an interrupted one is
resumed at its step. A stage that was changed in the recipe, and all that follow it, are run anew.
"""

import argparse
from dataclasses import replace

from retort.commands import plain_parser
from retort.recipes import packaged_recipes, read_recipe, run_recipe


def main() -> None:
    """Run the recipe named on the command line, with what else stands there in place of its own."""
    options = parse_options()
    recipe = read_recipe(options.recipe)
    if options.teacher:
        recipe = recipe.with_teacher(options.teacher)
    given = {name: value for name in ("output_dir", "push_to_hub") if (value := getattr(options, name))}
    recipe = replace(recipe, **given)
    if options.seed is not None:
        recipe = recipe.with_seed(options.seed)
    run_recipe(recipe, dry_run=options.dry_run)


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


if __name__ == "__main__":
    main()
