"""Tokenizers for students: trained on a corpus, or trimmed to it."""

from .counts import count_tokens
from .training import train_tokenizer
from .trimming import trim_tokenizer
