"""Recipes for sentence embeddings."""

from .recipe import SentenceRecipe
