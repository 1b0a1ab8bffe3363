"""Recipes for sentence embeddings."""

from .recipe import SentenceRecipe
from .scripts import how_to_use, layers_to_keep, load_model, report_sts, score_on_dev, tokenize_for
