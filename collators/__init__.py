"""From files to tensors: readers of text formats, tokenisation and alignment, and batches."""

from .collator import DistillationCollator, View
from .encoder import same_tokenizer
from .tokenization import tokenize

__all__ = ["DistillationCollator", "View", "same_tokenizer", "tokenize"]
