"""Tokenizers for students: trained on a corpus, or trimmed to it."""

from .training import count_tokens, train_tokenizer
from .trimming import trim_tokenizer
