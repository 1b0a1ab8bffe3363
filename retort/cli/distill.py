"""What `retort distill` takes."""

import argparse
from typing import Any

from .form import new_command

DESCRIPTION = """  retort distill quickstart
  retort distill small_ner stages.logits.learning_rate=1e-4 output_dir=runs/mine
  retort distill mine.yaml --dry_run

Trains what the recipe says: the teacher or assistant where it has stages, then the student stage by stage. Models are
selected on development data; the test data is scored once, at the end. The student, its model card and a report are
written to the recipe's output_dir. A run that was killed goes on where it was when it is started again; a stage that
was changed, and all that follow it, are run anew."""


def add_to(commands: Any) -> None:
    """Add the command to `retort`."""
    parser = new_command(
        commands,
        "distill",
        run,
        summary="Run a recipe, from the teacher to a student in a folder.",
        description=DESCRIPTION,
    )
    recipe = parser.add_argument_group("recipe")
    recipe.add_argument("recipe", metavar="NAME|FILE", help="one of retort's (see `retort recipes`), or a YAML file")
    recipe.add_argument(
        "changes",
        nargs="*",
        metavar="key=value",
        help="changes to the recipe: keys joined by dots, stages by name, values as in YAML; null removes a key. "
        "docs/recipes.md lists all keys",
    )
    how = parser.add_argument_group("run")
    how.add_argument(
        "--dry_run",
        action="store_true",
        help="check the recipe, its models and its data, show the stages and what each would train, and stop",
    )
    how.add_argument(
        "--only",
        metavar="STAGE",
        help="run this stage of the student alone; the stages before it must be finished, and the report is written "
        "after the last one",
    )
    how.add_argument("--push_to_hub", metavar="ID", help="push the finished student to this hub id")


def run(options: argparse.Namespace) -> None:
    """Distil."""
    from ..commands import distill

    distill.run(options)
