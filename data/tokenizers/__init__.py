"""Trains a student's tokenizer on a corpus, or trims the teacher's tokenizer to it."""

from .training import count_tokens, train_tokenizer
from .trimming import trim_tokenizer
