"""Distil by a recipe: a YAML file that names teacher, student, data, stages and evaluation.

python examples/run_recipe.py examples/recipes/quickstart.yaml [--teacher ...] [--output_dir ...] [--dry_run]

A run that was killed goes on where it was when it is started again: finished stages are skipped, an interrupted one is
resumed at its step. A stage that was changed in the recipe, and all that follow it, are run anew.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import transformers
from masked_recipe import MASKED, MaskedRecipe
from recipe import Recipe, read_recipe
from run_masked import run_masked
from run_sentences import run_sentences
from run_task import run_task
from sentence_recipe import SentenceRecipe
from task_recipe import TaskRecipe


def main() -> None:
    """Run the recipe named on the command line."""
    options = parse_options()
    recipe = changed(read_recipe(options.recipe), options)
    task = recipe.data.get("task")
    if recipe.assistant and task:
        raise SystemExit(f"{options.recipe}: only recipes for sentences have an assistant.")
    if recipe.new_teacher and task != MASKED:
        raise SystemExit(f"{options.recipe}: only masked language models (data: task: {MASKED}) have a new teacher.")
    if task == MASKED:
        run_masked(MaskedRecipe(recipe), dry_run=options.dry_run)
    elif task:
        run_task(TaskRecipe(recipe), dry_run=options.dry_run)
    else:
        run_sentences(SentenceRecipe(recipe), dry_run=options.dry_run)


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a YAML file such as examples/recipes/quickstart.yaml")
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
    transformers.logging.set_verbosity_warning()
    transformers.logging.disable_progress_bar()  # of loading and saving: gone before one can read it
    main()
