"""Readers of text formats, labelled tasks, tokenization of datasets, and tokenizers."""

from .arrow_rows import ArrowRows, arrow_parts
from .files import (
    check_folder_name,
    is_disk_full,
    remove_folder,
    replace_files,
    sweep,
    sync,
    sync_directory,
    temporary_folder,
    write_json,
    write_text,
)
from .fingerprints import (
    ROW_COLUMNS,
    fingerprint_model,
    fingerprint_rows,
    fingerprint_sentence_encoder,
    fingerprint_source,
    sha256_of,
    text_digest,
)
from .rankings import as_rankings, mine_negatives, pairs_of
from .readers import (
    STS_TASKS,
    TRANSFER_TASKS,
    docstring_corpus,
    passages,
    read_dataset,
    read_groups,
    read_parallel,
    read_scored_pairs,
    read_sts_task,
    read_texts,
    read_transfer_task,
    read_vectors,
    with_vectors,
)
from .tasks import Task, read_task
from .tokenization import same_tokenizer, tokenize, tokenize_groups, tokenize_spans
from .tokenizers import count_tokens, train_tokenizer, trim_tokenizer
from .vectors import VECTORS, beside, check_vectors, combine_vectors, has_vectors
