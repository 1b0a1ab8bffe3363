"""Recipes for tagging and classification."""

from .flags import ScheduleArguments, StudentArguments, TaskArguments, recipe_of
from .recipe import TaskRecipe
from .run import run_task
from .students import with_head
