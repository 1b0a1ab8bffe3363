"""Running text, cut into the words that a tagger gives a tag each."""

from __future__ import annotations

import re
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from .alignment import Span


def spans_between_spaces(text: str) -> list[Span]:
    """The words of a text that was split already, with spaces between them; other white space belongs to a word."""
    return [match.span() for match in re.finditer("[^ ]+", text)]


def split_running_text(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[Span]]:
    """Find the words of texts that nobody has split, as `transformers.pipeline("token-classification")` sees them.

    A tokenizer that marks the pieces inside words (WordPiece, `##ing`) says itself where they begin: punctuation
    stands alone, as it does in the data that taggers are trained on. For all others a word is what spaces separate.

    Args:
        texts: one string per row.
        tokenizer: a fast one; the tagger's.

    Returns:
        For each text the places of its words. What the tokenizer drops, such as control characters, is in none.
    """
    if not getattr(tokenizer.backend_tokenizer.model, "continuing_subword_prefix", None):
        return [spans_between_spaces(text) for text in texts]
    if not texts:
        return []
    found = []
    for encoding in tokenizer(list(texts), add_special_tokens=False, truncation=False, verbose=False).encodings:
        spans: dict[int, Span] = {}
        for word, (start, end) in zip(encoding.word_ids, encoding.offsets, strict=True):
            first, _ = spans.setdefault(word, (start, end))
            spans[word] = (first, end)
        found.append(list(spans.values()))
    return found
