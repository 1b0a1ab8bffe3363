"""Running a recipe, whichever kind of student it makes."""

from .masked import MaskedRecipe
from .presence import check_presence
from .schema import MaskedFiles, Recipe, SentenceFiles, TaskFiles
from .sentences import SentenceRecipe
from .tasks import TaskRecipe

KINDS = {SentenceFiles: SentenceRecipe, TaskFiles: TaskRecipe, MaskedFiles: MaskedRecipe}


def run_recipe(recipe: Recipe, *, dry_run: bool = False, only: str | None = None) -> None:
    """Run a recipe to its end: teacher or assistant, stages, report, student. What is finished already is skipped.

    Args:
        recipe: what to do.
        dry_run: show the stages, and what each would train, and stop.
        only: the name of a stage of the student: run this one alone, after those before it have been run.

    Raises:
        SystemExit: a file or a model that isn't there; all of them are named. Or a stage that isn't there, or not yet
            its turn.
    """
    check_presence(recipe)
    KINDS[type(recipe.data)](recipe).run(dry_run=dry_run, only=only)
