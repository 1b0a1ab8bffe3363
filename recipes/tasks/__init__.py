"""Recipes for tagging and classification."""

from .recipe import TaskRecipe
from .scores import score_task
from .students import with_head
