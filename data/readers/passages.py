"""A small corpus read at several lengths: a teacher answers for any text, whole sentences or not."""

from __future__ import annotations

import re
from itertools import pairwise

from datasets import Dataset

_CLAUSE_END = re.compile(r"(?<=[,;:])\s")

_FEWEST_WORDS = 4


def passages(sentences: Dataset, source: str) -> Dataset:
    """Sentences, their clauses, and every two neighbours joined.

    A student that sees few texts many times learns them by heart: more passes bring it no nearer to its teacher on
    other texts. Other cuts of the same text do.

    Args:
        sentences: a column `text` of one sentence per row, in the order of reading, and a column `source`.
        source: column that tells where a sentence comes from; two of different sources are not joined.

    Returns:
        A column `text` of distinct passages: the sentences in their order, then their clauses of at least four words
        (what stands between commas, semicolons and colons), then the pairs.
    """
    texts, sources = sentences["text"][:], sentences[source][:]
    clauses = [clause for text in texts for clause in _CLAUSE_END.split(text) if len(clause.split()) >= _FEWEST_WORDS]
    pairs = [
        f"{first} {second}"
        for (first, here), (second, there) in pairwise(zip(texts, sources, strict=True))
        if here == there
    ]
    return Dataset.from_dict({"text": list(dict.fromkeys([*texts, *clauses, *pairs]))})
