"""Arguments of `retort distill`."""

import argparse

SUMMARY = "Run a recipe, from the teacher to a student in a folder."
INTERRUPTED = "interrupted. Start it again to continue."
DESCRIPTION = """  retort distill quickstart
  retort distill small_ner stages.logits.learning_rate=1e-4 output_dir=runs/mine
  retort distill mine.yaml --dry_run

Runs the stages of the recipe: those of the teacher and of the assistant, if there are any, then those of the student.
Models are selected on development data. The test data is scored once, at the end. The student, its model card and a
report are written to the recipe's output_dir. If a run is interrupted, start it again: it resumes from its last
checkpoint. If a stage has changed, it and all later stages run again."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    recipe = parser.add_argument_group("recipe")
    recipe.add_argument("recipe", metavar="NAME|FILE", help="a packaged recipe (see `retort recipes`) or a YAML file")
    recipe.add_argument(
        "changes",
        nargs="*",
        metavar="key=value",
        help="changes to the recipe: keys joined by dots, with the names of stages; values as in YAML; null removes a "
        "key. docs/recipes.md lists all keys",
    )
    how = parser.add_argument_group("run")
    how.add_argument(
        "--dry_run",
        action="store_true",
        help="check the recipe, its models and its data, show the stages and what each of them would train, and stop",
    )
    how.add_argument(
        "--only",
        metavar="STAGE",
        help="run only this stage of the student. The stages before it must be finished. The report is written after "
        "the last stage",
    )
    how.add_argument("--push_to_hub", metavar="ID", help="push the finished student to this hub id")
