"""Run a recipe, a YAML file with teacher, student, data, stages and evaluation, as `retort distill` does.

python examples/run_recipe.py quickstart
python examples/run_recipe.py mine.yaml teacher=my/model stages.embeddings.learning_rate=1e-4 output_dir=runs/mine

If it is killed and started again, finished stages are skipped and an interrupted one is resumed. A stage that was
changed in the recipe and all later ones are run again.
"""

import argparse
from dataclasses import replace

from retort import read_recipe, run_recipe


def main() -> None:
    """Read the recipe with the changes of the command line, and run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a YAML file, or the name of a packaged recipe (see `retort recipes`)")
    parser.add_argument("changes", nargs="*", metavar="key=value", help="changes of the recipe: keys joined by dots")
    parser.add_argument("--dry_run", action="store_true", help="only show the stages, without training")
    parser.add_argument("--push_to_hub", metavar="ID", help="push the finished student to this hub id")
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)  # deepspeed passes it
    options = parser.parse_intermixed_args()

    recipe = read_recipe(options.recipe, options.changes)
    if options.push_to_hub:
        recipe = replace(recipe, push_to_hub=options.push_to_hub)
    run_recipe(recipe, dry_run=options.dry_run)


if __name__ == "__main__":
    main()
