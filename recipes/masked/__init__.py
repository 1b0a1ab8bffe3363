"""Recipes for masked language models."""

from .recipe import MASKED, MaskedRecipe, new_bert
from .run import how_to_use, run_masked
