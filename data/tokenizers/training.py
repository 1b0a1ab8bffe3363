"""Trains a tokenizer, e.g. for languages that the teacher's doesn't cover, and counts tokens."""

import copy
import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer, normalizers
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from ...modeling.vocabularies import require_fast, vocabulary_size

# Texts per batch.
_BATCH = 1000


def train_tokenizer(texts: Dataset, like: PreTrainedTokenizerBase, vocab_size: int) -> PreTrainedTokenizerBase:
    """Train a tokenizer on text.

    Repeated training may give different vocabularies, since words of equal count come in any order. So save the
    tokenizer and load it.

    Args:
        texts: columns of strings. The amount of text in each language determines its number of tokens.
        like: a fast tokenizer, which defines the kind of model, the special tokens and the case. Accents are kept even
            if it strips them (uncased BERT), since they distinguish words in most languages, and letters in Russian.
        vocab_size: maximal number of tokens, special tokens included.

    Raises:
        ValueError: the tokenizer is slow, there is no text, or `vocab_size` is too small for the characters of the
            texts.
        TypeError: `texts` is no `Dataset`.
    """
    require_fast(like)
    _check_texts(texts)
    if not len(texts):
        raise ValueError("There is no text to train a tokenizer on.")
    template = copy.deepcopy(like)
    if isinstance(normalizer := template.backend_tokenizer.normalizer, normalizers.BertNormalizer):
        normalizer.strip_accents = template.init_kwargs["strip_accents"] = False
        template.backend_tokenizer.normalizer = normalizer
    made = template.train_new_from_iterator(text_batches(texts), vocab_size)
    if len(made) > vocab_size:
        raise ValueError(f"vocab_size={vocab_size}, but there are {len(made)} special tokens and single characters.")
    return made


def _check_texts(texts: Any) -> None:
    """Raise a TypeError for anything but a dataset, such as a list of strings."""
    if not isinstance(texts, Dataset):
        raise TypeError(
            f"The texts must be a datasets.Dataset with columns of strings, but are a {type(texts).__name__}. Pass "
            "Dataset.from_dict({'text': texts}) for a list of strings, or read_texts([...]) for files."
        )


def text_batches(texts: Dataset) -> Iterator[list[str]]:
    """All texts of all columns in batches.

    Raises:
        ValueError: a value is not a text.
    """
    first = 1
    for batch in texts.with_format(None).iter(_BATCH):
        for column, values in batch.items():
            for row, text in enumerate(values, first):
                if not isinstance(text, str):
                    raise ValueError(
                        f"Row {row} (from 1) of the column {column!r} is {text!r:.40}, not a text. Remove such rows "
                        "and columns first, as read_texts does."
                    )
        first += len(values)
        yield [text for column in batch.values() for text in column]


def count_tokens(tokenizer: PreTrainedTokenizerBase, texts: Dataset) -> torch.Tensor:
    """Count the tokens of texts, without the special tokens that the tokenizer adds.

    Args:
        tokenizer: a fast tokenizer.
        texts: columns of strings.

    Returns:
        `[vocabulary]`, int64, the count of each token id.

    Raises:
        ValueError: the tokenizer is slow.
        TypeError: `texts` is no `Dataset`.
    """
    require_fast(tokenizer)
    _check_texts(texts)
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
    """The backend of a fast tokenizer, without the truncation and padding of its last call."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    counter = Tokenizer.from_str(json.dumps(backend | {"truncation": None, "padding": None}))
    counter.encode_special_tokens = tokenizer.split_special_tokens
    return counter
