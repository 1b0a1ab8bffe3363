"""Spells the tokens of one vocabulary by the pieces of another."""

from .spelling import ROLES, Spelling, require_fast, spell, vocabulary_size
from .vocabulary_map import VocabularyMap
