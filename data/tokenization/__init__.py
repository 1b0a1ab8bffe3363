"""Tokenizes rows of text, and aligns the tokens of two tokenizers."""

from .encoder import EncodedRow, Encoder, makes_token_types, same_tokenizer
from .groups import tokenize_groups
from .spans import NONE, tokenize_spans
from .texts import tokenize
from .windows import cut_into_windows, stride_within
from .words import Span, spans_between_spaces, split_running_text
