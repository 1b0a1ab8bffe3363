"""How often a text has each token of a vocabulary."""

import json
from itertools import chain

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from ...modeling.vocabularies import require_fast, vocabulary_size
from .training import text_batches


def count_tokens(tokenizer: PreTrainedTokenizerBase, texts: Dataset) -> torch.Tensor:
    """Count the tokens that texts come to, without those that a tokenizer adds to them.

    Args:
        tokenizer: a fast one.
        texts: columns of strings.

    Returns:
        `[vocabulary]`, int64, by id.

    Raises:
        ValueError: a slow tokenizer.
    """
    require_fast(tokenizer)
    counter = counting_tokenizer(tokenizer)
    counts = np.zeros(vocabulary_size(counter), dtype=np.int64)
    with tqdm(total=texts.num_rows * texts.num_columns, desc="Counting tokens", unit=" texts") as bar:
        for batch in text_batches(texts):
            encodings = counter.encode_batch_fast(batch, add_special_tokens=False)
            ids = np.fromiter(chain.from_iterable(encoding.ids for encoding in encodings), dtype=np.int64)
            counts += np.bincount(ids, minlength=len(counts))
            bar.update(len(batch))
    return torch.from_numpy(counts)


def counting_tokenizer(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """What is inside a fast tokenizer, without the truncation and padding of its last call."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    counter = Tokenizer.from_str(json.dumps(backend | {"truncation": None, "padding": None}))
    counter.encode_special_tokens = tokenizer.split_special_tokens
    return counter
