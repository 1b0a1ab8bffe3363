"""Reads rows of text from files and datasets."""

from .columns import LABELS, PAIRS, TAGS, TEXTS, WORDS, find_columns
from .datasets import convert, distinct, folded, load_splits, read_dataset, read_texts, renamed_texts
from .docstrings import (
    Docstring,
    DocstringCorpus,
    docstring_corpus,
    library_docstrings,
    passages,
    sides_of,
    split_sentences,
)
from .groups import read_groups
from .json_files import JSON, json_kinds, json_objects, json_rows
from .lines import format_of, is_packed
from .parallel import both_sides, read_pairs, read_parallel
from .senteval import (
    STS_TASKS,
    TRANSFER_TASKS,
    LabelledTexts,
    read_scored_pairs,
    read_sts,
    read_sts_task,
    read_transfer_task,
)
from .tables import TABLES, find_layout, role_rows, table_rows
from .text_files import conll_rows, text_rows
from .vectors import ARRAYS, read_vectors, with_vectors
