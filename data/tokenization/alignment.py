"""Where words begin in a tokenised text, by character offsets.

Offsets are the one thing that all fast tokenizers share: they point into the text as it was given, whatever was
lowercased, stripped of accents or turned into bytes on the way. So two tokenizers agree on words without agreeing on
anything else, and a word that occurs twice can't be mistaken for its other occurrence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tokenizers import Encoding

Word = tuple[int, int]

"""A word of a row: which of the row's texts (0, or 1 in a pair), and which word in that text."""

Span = tuple[int, int]

"""First character of a word, and one past its last."""


def spans_of_text(text: str) -> list[Span]:
    """The words of a text: what whitespace separates."""
    return [match.span() for match in re.finditer(r"\S+", text)]


def spans_of_words(words: Iterable[str]) -> list[Span]:
    """The places of words in `" ".join(words)`."""
    spans, start = [], 0
    for word in words:
        spans.append((start, start + len(word)))
        start += len(word) + 1
    return spans


def first_pieces(encoding: Encoding, texts: Sequence[Sequence[Span]]) -> dict[Word, int]:
    """The place in the row of the first token that covers a character of each word.

    A token may cover several words, and a token of whitespace none. Special tokens that the tokenizer added cover
    nothing. Words without a token (cut off, or dropped by the tokenizer) are missing from the result.

    Args:
        encoding: of one row.
        texts: the spans of the words of each of its texts.
    """
    owners = [_word_of_each_character(spans) for spans in texts]
    firsts: dict[Word, int] = {}
    for position, (text, (start, end)) in enumerate(zip(encoding.sequence_ids, encoding.offsets, strict=True)):
        if text is None:
            continue
        for word in owners[text][start:end]:
            if word is not None:
                firsts.setdefault((text, word), position)
    return firsts


def _word_of_each_character(spans: Sequence[Span]) -> list[int | None]:
    owners: list[int | None] = [None] * (max((end for _, end in spans), default=0))
    for word, (start, end) in enumerate(spans):
        owners[start:end] = [word] * (end - start)
    return owners
