"""Running a recipe, whichever kind of student it makes."""

from __future__ import annotations

from .masked import MASKED, MaskedRecipe, run_masked
from .recipe import Recipe
from .sentences import SentenceRecipe, run_sentences
from .tasks import TaskRecipe, run_task


def run_recipe(recipe: Recipe, *, dry_run: bool = False) -> None:
    """Run a recipe to its end: teacher, stages, report, student. What is finished already is skipped.

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
    if task == MASKED:
        run_masked(MaskedRecipe(recipe), dry_run=dry_run)
    elif task:
        run_task(TaskRecipe(recipe), dry_run=dry_run)
    else:
        run_sentences(SentenceRecipe(recipe), dry_run=dry_run)
