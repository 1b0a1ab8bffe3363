"""How the tokens of one vocabulary are spelled in another."""

from .spelling import ROLES, Spelling, require_fast, spell, vocabulary_size
from .vocabulary_map import VocabularyMap
