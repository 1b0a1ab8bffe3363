"""Stretches of a text at whose ends two tokenizers agree, found by character offsets.

A token of either side that shares a character with one of the other's is in the same span with it. So a span may be a
token on both sides, one of the teacher's and several of the student's, or, where their cuts cross, several on both. A
word that occurs twice can't be mistaken for its other occurrence, and a token that covers a space more than another
still meets it.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from tokenizers import Encoding

from .alignment import spans_of_text

# A token that is in no span, and the word of a token that stands for no text.
NONE = -1


@dataclass(frozen=True)
class Spans:
    """The spans of one row, in the order of the text.

    Attributes:
        student: the span of each of the student's tokens; `NONE` for one that the teacher has no counterpart of.
        teacher: likewise, of each of the teacher's.
        words: for each span, the word that it begins in, as whitespace separates them; `NONE` for special tokens.
        characters: for each span, how many characters it covers, but for whitespace.
    """

    student: list[int]
    teacher: list[int]
    words: list[int]
    characters: list[int]


def find_spans(text: str, student: Encoding, teacher: Encoding) -> Spans:
    """The spans of one text that was encoded twice.

    Special tokens that the tokenizers added make spans of their own, the first with the first and so on, if there are
    as many of them on both sides.
    """
    sides = [_stretches(encoding) for encoding in (student, teacher)]
    spans = [[NONE] * len(encoding.ids) for encoding in (student, teacher)]
    word_starts = [start for start, _ in spans_of_text(text)]
    words, characters = [], []
    for start, end, members in _components(sides):
        if not all(members):
            continue
        for side, tokens in zip(spans, members, strict=True):
            for token in tokens:
                side[token] = len(words)
        words.append(max(bisect_right(word_starts, _first_character(text, start, end)) - 1, 0))
        characters.append(len("".join(text[start:end].split())))
    added = [[i for i, text in enumerate(each.sequence_ids) if text is None] for each in (student, teacher)]
    if len(added[0]) == len(added[1]):
        for ours, theirs in zip(*added, strict=True):
            spans[0][ours] = spans[1][theirs] = len(words)
            words.append(NONE)
            characters.append(0)
    return Spans(*spans, words, characters)


def cut_text(text: str, encodings: tuple[Encoding, Encoding], limits: tuple[int, int]) -> list[str]:
    """Cut a text where both tokenizers cut it, so that neither makes more tokens of a part than it may.

    Cuts between words, where a part has room for one. Whitespace between them goes to the part after it if any token
    covers it: so the parts, encoded by themselves, mostly have the tokens that they have in the whole text.

    Args:
        text: the text.
        encodings: of the whole text by both tokenizers, without special tokens.
        limits: how many tokens, special ones not counted, a part may have on either side.
    """
    parts, begin, used, last_word, stretch = [], 0, [0, 0], (0, [0, 0]), ""
    for start, end, members in _components([_stretches(encoding) for encoding in encodings]):
        more = [len(tokens) for tokens in members]
        between_words = text[start].isspace() or text[start - 1].isspace()
        if between_words and not stretch.isspace():
            last_word = start, used
        stretch = text[start:end]
        while any(used) and any(have + n > limit for have, n, limit in zip(used, more, limits, strict=True)):
            cut, before = last_word if last_word[0] > begin else (start, used)
            parts.append(text[begin:cut])
            begin = cut
            used = [have - gone for have, gone in zip(used, before, strict=True)]
        used = [have + n for have, n in zip(used, more, strict=True)]
    return [*parts, text[begin:]]


def _stretches(encoding: Encoding) -> list[tuple[int, int, int]]:
    """First character, end and index of each token that stands for text."""
    places = zip(encoding.sequence_ids, encoding.offsets, strict=True)
    return [(start, end, i) for i, (text, (start, end)) in enumerate(places) if text is not None and end > start]


def _components(sides: list[list[tuple[int, int, int]]]) -> list[tuple[int, int, tuple[list[int], list[int]]]]:
    """Runs of tokens that share characters with one another: first character, end, and the tokens of either side."""
    everything = sorted((*token, side) for side, tokens in enumerate(sides) for token in tokens)
    found: list[tuple[int, int, tuple[list[int], list[int]]]] = []
    for start, end, token, side in everything:
        if found and start < found[-1][1]:
            first, last, members = found[-1]
            found[-1] = first, max(last, end), members
        else:
            found.append((start, end, ([], [])))
        found[-1][2][side].append(token)
    return found


def _first_character(text: str, start: int, end: int) -> int:
    """Where a stretch begins that may begin with a space (byte-level tokens hold the one before their word)."""
    return next((place for place in range(start, end) if not text[place].isspace()), start)
