"""Recipes for tagging and classification."""

from .flags import ScheduleArguments, StudentArguments, TaskArguments, recipe_of
from .recipe import TaskRecipe
from .students import with_head
