"""Scores documents with a reranker."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from accelerate import PartialState
from datasets import Dataset, concatenate_datasets
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from ...collators import collator_for, most_tokens
from ...data import as_rankings, pairs_of, tokenize
from ...modeling.encoding import AttentionSettings, OutputRequest
from .cached import cache_teacher
from .live import LiveTeacher


def load_reranker(source: str | Path) -> tuple[PreTrainedModel, Tokenizer]:
    """Load a cross-encoder, in float32.

    Args:
        source: folder or hub id of a sequence classifier with one label.

    Raises:
        ValueError: the model has another number of labels, or no weights for its head.
    """
    labels = AutoConfig.from_pretrained(source).num_labels
    if labels != 1:
        raise ValueError(f"A reranker needs one label, but {source} has {labels} (config.num_labels).")
    model, report = AutoModelForSequenceClassification.from_pretrained(
        source, dtype=torch.float32, output_loading_info=True
    )
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"{source} has no weights for {', '.join(missing[:4])}: its scores would be random.")
    return model.eval(), AutoTokenizer.from_pretrained(source)


def score_groups(
    groups: Dataset,
    teacher: PreTrainedModel | str | Path,
    folder: str | Path,
    *,
    tokenizer: Tokenizer | None = None,
    max_length: int = 512,
    batch_size: int = 64,
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """Score every document of every query with a cross-encoder, or continue an interrupted run.

    Args:
        groups: groups from `read_groups` or `mine_negatives`.
        teacher: a sequence classifier with one label, or its folder or hub id.
        folder: folder for the scores, which are written in parts (see `cache_teacher`).
        tokenizer: the teacher's tokenizer, if `teacher` is a model.
        max_length: maximum number of tokens of a pair, special tokens included. Longer pairs are truncated and counted.
        batch_size: pairs of a forward pass.
        dtype: dtype in which a float32 model computes.

    Returns:
        A dataset with the columns `query`, `documents` and `scores` (the teacher's logits, float32).

    Raises:
        ValueError: the classifier does not have one label; a text has no tokens; or `folder` has scores of other groups
            or of another teacher.
    """
    if not isinstance(teacher, PreTrainedModel):
        teacher, tokenizer = load_reranker(teacher)
    elif tokenizer is None:
        raise ValueError("If the teacher is a model, pass its tokenizer: score_groups(..., tokenizer=...).")
    elif teacher.config.num_labels != 1:
        raise ValueError(f"A reranker needs one label, but the teacher has {teacher.config.num_labels}.")
    groups = as_rankings(groups).select_columns(["query", "documents"]).flatten_indices()
    pairs = pairs_of(groups)
    longest = int(min(max_length, most_tokens(teacher)))
    rows = tokenize(pairs, tokenizer, text="query", text_pair="document", max_length=longest)
    if len(rows) != len(pairs):
        raise ValueError(f"{len(pairs) - len(rows)} of {len(pairs)} pairs have a text without tokens. Remove them.")
    device = PartialState().device
    attention = AttentionSettings(device, dtype)
    made = cache_teacher(
        LiveTeacher([teacher.to(device)], OutputRequest(logits=True), autocast=dtype),
        rows,
        folder,
        collator=collator_for(teacher, [], tokenizer, None, attention=attention),
        device=device,
        dtype="float32",
        batch_size=batch_size,
    )
    logits = made.with_format("arrow")[:]["teacher_logits"].combine_chunks().flatten()
    sizes = [len(documents) for documents in groups["documents"]]
    scores = pa.ListArray.from_arrays(np.cumsum([0, *sizes]).astype(np.int32), logits)
    return concatenate_datasets([groups, Dataset(pa.table({"scores": scores}))], axis=1)
