"""Recipes for masked language models."""

from .recipe import MASKED, MaskedRecipe, how_to_use, new_bert
