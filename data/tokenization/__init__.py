"""Rows of text -> tokens, with what ties the tokens of two tokenizers."""

from .alignment import Span
from .encoder import EncodedRow, Encoder, makes_token_types, same_tokenizer
from .running_text import spans_between_spaces, split_running_text
from .spans import NONE
from .tokenize import tokenize
from .tokenize_groups import tokenize_groups
from .tokenize_spans import tokenize_spans
