"""Recipes for masked language models."""

from .recipe import MaskedRecipe, how_to_use, new_bert
