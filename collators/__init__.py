"""From files to tensors: readers of text formats, tokenisation and alignment, and batches."""

from .collator import DistillationCollator, View
from .encoder import same_tokenizer
from .readers import read_dataset, read_texts
from .tokenization import tokenize

__all__ = ["DistillationCollator", "View", "read_dataset", "read_texts", "same_tokenizer", "tokenize"]
