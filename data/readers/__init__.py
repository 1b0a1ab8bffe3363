"""Files and datasets -> rows of text."""

from .datasets import (
    convert,
    distinct,
    folded,
    format_of,
    load_splits,
    read_dataset,
    read_texts,
)
from .docstrings import DocstringCorpus, docstring_corpus, passages
from .groups import read_groups
from .parallel import both_sides, read_parallel
from .senteval import (
    STS_TASKS,
    TRANSFER_TASKS,
    LabelledTexts,
    ScoredPairs,
    read_scored_pairs,
    read_sts,
    read_sts_task,
    read_transfer_task,
)
from .text_files import conll_rows, labelled_rows, text_rows
