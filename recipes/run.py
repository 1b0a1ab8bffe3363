"""Running a recipe, whichever kind of student it makes."""

from .masked import MASKED, MaskedRecipe
from .recipe import Recipe
from .sentences import SentenceRecipe
from .tasks import TaskRecipe


def run_recipe(recipe: Recipe, *, dry_run: bool = False) -> None:
    """Run a recipe to its end: teacher or assistant, stages, report, student. What is finished already is skipped.

    Args:
        recipe: what to do.
        dry_run: show the stages, and what each would train, and stop.

    Raises:
        SystemExit: the recipe asks for what its kind of student doesn't have.
    """
    task = recipe.data.get("task")
    if recipe.assistant and task:
        raise SystemExit("Only recipes for sentences have an assistant.")
    if recipe.new_teacher and task != MASKED:
        raise SystemExit(f"Only masked language models (data: task: {MASKED}) have a new teacher.")
    kind = MaskedRecipe if task == MASKED else TaskRecipe if task else SentenceRecipe
    kind(recipe).run(dry_run=dry_run)
