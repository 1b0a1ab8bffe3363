"""Recipes for masked language models."""

from .recipe import MaskedRecipe
