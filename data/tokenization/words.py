"""Finds the words of a text and their first tokens by character offsets.

Offsets of all fast tokenizers refer to the original text, whatever their normalisation. So words can be matched between
any two tokenizers, and repeated words can't be confused.
"""

import re
from collections.abc import Iterable, Sequence

from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase

# A word of a row: index of the text (0, or 1 in a pair) and index of the word in that text.
Word = tuple[int, int]
# First character of a word, and one past its last.
Span = tuple[int, int]


def spans_of_text(text: str) -> list[Span]:
    """The words of a text, separated by whitespace."""
    return [match.span() for match in re.finditer(r"\S+", text)]


def spans_between_spaces(text: str) -> list[Span]:
    """The words of a text, separated by spaces only. Other whitespace is part of a word."""
    return [match.span() for match in re.finditer("[^ ]+", text)]


def spans_of_words(words: Iterable[str]) -> list[Span]:
    """The spans of words in `" ".join(words)`."""
    spans, start = [], 0
    for word in words:
        spans.append((start, start + len(word)))
        start += len(word) + 1
    return spans


def split_running_text(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[Span]]:
    """Find the words of running text as `transformers.pipeline("token-classification")` does.

    A tokenizer that marks pieces inside words (WordPiece, `##ing`) defines the words: punctuation is separate, as in
    the data that taggers are trained on. For all other tokenizers, words are separated by spaces.

    Args:
        texts: one string per row.
        tokenizer: the tagger's tokenizer; a fast tokenizer.

    Returns:
        For each text the spans of its words. Characters that the tokenizer drops, such as control characters, are in no
        word.
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
    """The position in the row of the first token that covers a character of each word.

    A token may cover several words. Tokens of whitespace and special tokens cover none. Words without a token
    (truncated, or dropped by the tokenizer) are missing from the result.

    Args:
        encoding: encoding of one row.
        texts: spans of the words, for each text of the row.
    """
    owners: list[list[int | None]] = []  # for each text, the word of each character
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
