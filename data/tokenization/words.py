"""The words of a text and the tokens that they begin with, by character offsets.

Offsets are the one thing that all fast tokenizers share: they point into the text as it was given, whatever was
lowercased, stripped of accents or turned into bytes on the way. So two tokenizers agree on words without agreeing on
anything else, and a word that occurs twice can't be mistaken for its other occurrence.
"""

import re
from collections.abc import Iterable, Sequence

from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase

Word = tuple[int, int]

"""A word of a row: which of the row's texts (0, or 1 in a pair), and which word in that text."""

Span = tuple[int, int]

"""First character of a word, and one past its last."""


def spans_of_text(text: str) -> list[Span]:
    """The words of a text: what whitespace separates."""
    return [match.span() for match in re.finditer(r"\S+", text)]


def spans_between_spaces(text: str) -> list[Span]:
    """The words of a text that was split already, with spaces between them; other white space belongs to a word."""
    return [match.span() for match in re.finditer("[^ ]+", text)]


def spans_of_words(words: Iterable[str]) -> list[Span]:
    """The places of words in `" ".join(words)`."""
    spans, start = [], 0
    for word in words:
        spans.append((start, start + len(word)))
        start += len(word) + 1
    return spans


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


def first_pieces(encoding: Encoding, texts: Sequence[Sequence[Span]]) -> dict[Word, int]:
    """The place in the row of the first token that covers a character of each word.

    A token may cover several words, and a token of whitespace none. Special tokens that the tokenizer added cover
    nothing. Words without a token (cut off, or dropped by the tokenizer) are missing from the result.

    Args:
        encoding: of one row.
        texts: the spans of the words of each of its texts.
    """
    owners: list[list[int | None]] = []  # of each text, the word that each character belongs to
    for spans in texts:
        owners.append([None] * max((end for _, end in spans), default=0))
        for word, (start, end) in enumerate(spans):
            owners[-1][start:end] = [word] * (end - start)
    firsts: dict[Word, int] = {}
    for position, (text, (start, end)) in enumerate(zip(encoding.sequence_ids, encoding.offsets, strict=True)):
        if text is None:
            continue
        for word in owners[text][start:end]:
            if word is not None:
                firsts.setdefault((text, word), position)
    return firsts
