"""Runs a recipe for any kind of student."""

from .masked import MaskedRecipe
from .presence import check_presence
from .schema import MaskedFiles, Recipe, SentenceFiles, TaskFiles
from .sentences import SentenceRecipe
from .tasks import TaskRecipe

KINDS = {SentenceFiles: SentenceRecipe, TaskFiles: TaskRecipe, MaskedFiles: MaskedRecipe}


def run_recipe(recipe: Recipe, *, dry_run: bool = False, only: str | None = None) -> None:
    """Run a recipe: teacher or assistant, stages, report, student. Finished parts are skipped.

    Args:
        recipe: the recipe.
        dry_run: only show the stages and the parameters that each trains.
        only: name of a stage of the student. Only this stage is run; the previous ones must be finished. Student, model
            card and report are only written if it is the last one.

    Raises:
        SystemExit: files or models don't exist (the message lists them); there is no such stage; or a previous stage
            isn't finished.
    """
    check_presence(recipe)
    KINDS[type(recipe.data)](recipe, dry_run).run(only)
