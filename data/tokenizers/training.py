"""A tokenizer for languages that the teacher's doesn't know."""

import copy
import json
from collections.abc import Iterator
from itertools import chain

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer, normalizers
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from ...modeling.vocabularies import require_fast, vocabulary_size

# Texts handed over at a time.
_BATCH = 1000


def train_tokenizer(texts: Dataset, like: PreTrainedTokenizerBase, vocab_size: int) -> PreTrainedTokenizerBase:
    """Train a tokenizer on text.

    Two trainings need not give the same vocabulary, as words of equal count come in any order: save it, and read it
    from there.

    Args:
        texts: columns of strings, in all languages; how much there is of each decides how many tokens it gets.
        like: a fast tokenizer: kind of model, special tokens and case are as it has them. Accents are kept even where
            it strips them (BERT, uncased): in most languages they tell words apart, and Russian letters.
        vocab_size: tokens at most, special ones among them.

    Raises:
        ValueError: a slow tokenizer, no text, or a vocabulary too small for the characters that there are.
    """
    require_fast(like)
    if not len(texts):
        raise ValueError("There is no text to train a tokenizer on.")
    template = copy.deepcopy(like)
    if isinstance(normalizer := template.backend_tokenizer.normalizer, normalizers.BertNormalizer):
        normalizer.strip_accents = template.init_kwargs["strip_accents"] = False
        template.backend_tokenizer.normalizer = normalizer
    made = template.train_new_from_iterator(text_batches(texts), vocab_size)
    if len(made) > vocab_size:
        raise ValueError(
            f"vocab_size={vocab_size}, but the special tokens and single characters alone come to {len(made)}."
        )
    return made


def text_batches(texts: Dataset) -> Iterator[list[str]]:
    """All texts of all columns, some thousand at a time.

    Raises:
        ValueError: a row that holds no text.
    """
    first = 1
    for batch in texts.with_format(None).iter(_BATCH):
        for column, values in batch.items():
            for row, text in enumerate(values, first):
                if not isinstance(text, str):
                    raise ValueError(
                        f"Row {row} (from 1) of the column {column!r} holds {text!r:.40}, no text. Leave such rows "
                        "and columns out first, as read_texts does."
                    )
        first += len(values)
        yield [text for column in batch.values() for text in column]


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
