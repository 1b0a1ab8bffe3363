"""Recipes for sentence embeddings."""

from .flags import SentenceArguments, STSArguments, distil, how_to_use, load_model, new_student, prepare, score_on_dev
from .recipe import SentenceRecipe
