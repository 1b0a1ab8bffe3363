"""From files to tensors: readers of text formats, tokenisation and alignment, and batches."""

from .collator import DistillationCollator, View
from .docstrings import DocstringCorpus, docstring_corpus
from .encoder import same_tokenizer
from .parallel_text import PairCollator, both_sides, read_parallel
from .passages import passages
from .readers import read_dataset, read_texts
from .span_collator import SpanCollator
from .span_tokenization import tokenize_spans
from .tasks import Task, read_task
from .text_groups import GroupCollator, read_groups, tokenize_groups
from .token_counts import count_tokens
from .tokenization import tokenize
from .tokenizer_training import train_tokenizer
from .tokenizer_trimming import trim_tokenizer

__all__ = [
    "DistillationCollator",
    "DocstringCorpus",
    "GroupCollator",
    "PairCollator",
    "SpanCollator",
    "Task",
    "View",
    "both_sides",
    "count_tokens",
    "docstring_corpus",
    "passages",
    "read_dataset",
    "read_groups",
    "read_parallel",
    "read_task",
    "read_texts",
    "same_tokenizer",
    "tokenize",
    "tokenize_groups",
    "tokenize_spans",
    "train_tokenizer",
    "trim_tokenizer",
]
