"""Splits rows that are longer than a model's limit into overlapping windows.

With one tokenizer, windows are those of `transformers.pipeline("token-classification", stride=...)`: each begins
`stride` tokens before the end of the previous one. With two tokenizers, a window has the same words for both models, so
rows are split between words. The tokens are those of the whole row, with special tokens around each window.
"""

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from .encoder import EncodedRow, room_for_text
from .words import Word

# Default share of a window that overlaps with the next one.
_DEFAULT_SHARE = 1 / 4


def stride_within(stride: int | None, max_length: int, *tokenizers: PreTrainedTokenizerBase) -> int:
    """The number of tokens that consecutive windows share.

    Args:
        stride: the user's value; None for a quarter of a window's text tokens.
        max_length: maximal number of tokens of a window, special tokens included; lowered to the tokenizers'
            `model_max_length`.
        tokenizers: tokenizers of the models that read the windows.

    Raises:
        ValueError: `stride` is not an integer, below 0, or not below the number of a window's text tokens.
    """
    room = min(room_for_text(tokenizer, max_length) for tokenizer in tokenizers)
    if stride is None:
        return int(room * _DEFAULT_SHARE)
    if not isinstance(stride, int) or not 0 <= stride < room:
        raise ValueError(
            f"stride={stride!r}, but a window has {room} tokens of text, so windows can share from 0 to {room - 1}. "
            "Pass a smaller stride or a larger max_length."
        )
    return stride


def cut_into_windows(sides: Sequence[EncodedRow], limits: Sequence[int], stride: int) -> list[tuple[EncodedRow, ...]]:
    """Split a row into windows if it is too long for any of the models.

    Args:
        sides: the whole row encoded by each tokenizer: the student's, and the teacher's if it differs.
        limits: maximal number of tokens of a window on each side, special tokens included.
        stride: number of tokens that consecutive windows share. With two tokenizers, they share as many whole words as
            have at most that many tokens on both sides.

    Returns:
        For each window its tokens on each side. A word is among the `first_pieces` of only one window, the one in which
        its first piece is farthest from a cut. With two tokenizers, a word with more tokens than a window is truncated.
    """
    if all(len(row.ids) <= limit for row, limit in zip(sides, limits, strict=True)):
        return [tuple(sides)]
    cuts = _possible_cuts(sides)
    rooms = [limit - len(row.ids) + len(row.text) for row, limit in zip(sides, limits, strict=True)]
    windows = _overlapping(cuts, rooms, stride)
    stretches = [
        [range(places[begin], min(places[end], places[begin] + room)) for begin, end in windows]
        for places, room in zip(cuts, rooms, strict=True)
    ]
    words = _words_of_windows(sides[0].first_pieces, stretches[0])
    made = [
        tuple(_window(row, of_side[index], owned) for row, of_side in zip(sides, stretches, strict=True))
        for index, owned in enumerate(words)
    ]
    # The row's totals are assigned to its first window: words in no window, unknown words, and truncation.
    first = [
        replace(
            window,
            words=window.words + sides[0].words - sum(map(len, words)),
            unknown_words=row.unknown_words,
            was_cut=any(stretch.stop < places[end] for stretch, (_, end) in zip(of_side, windows, strict=True)),
        )
        for window, row, places, of_side in zip(made[0], sides, cuts, stretches, strict=True)
    ]
    return [tuple(first), *made[1:]]


def _window(row: EncodedRow, tokens: range, words: list[Word]) -> EncodedRow:
    """The part of a row in a window, with the positions of the first pieces of `words`."""
    shift = row.text.start - tokens.start
    places = {word: row.first_pieces.get(word, -1) for word in words}
    return EncodedRow(
        ids=row.between_special(row.ids, tokens),
        type_ids=row.between_special(row.type_ids, tokens),
        text=range(row.text.start, row.text.start + len(tokens)),
        was_cut=False,
        words=len(words),
        first_pieces={word: place + shift for word, place in places.items() if place in tokens},
        unknown_words=0,
    )


def _possible_cuts(sides: Sequence[EncodedRow]) -> list[Sequence[int]]:
    """For each side, the positions at which a window may begin, in order, and the end of the text.

    With one tokenizer, a window may begin at every token; with two, only where a word begins on both sides.
    """
    if len(sides) == 1:
        return [range(sides[0].text.start, sides[0].text.stop + 1)]
    cuts = [[row.text.start] for row in sides]
    for word in sides[0].first_pieces:
        places = [row.first_pieces.get(word, -1) for row in sides]
        if all(place > found[-1] for place, found in zip(places, cuts, strict=True)):
            for place, found in zip(places, cuts, strict=True):
                found.append(place)
    return [[*found, row.text.stop] for found, row in zip(cuts, sides, strict=True)]


def _overlapping(cuts: Sequence[Sequence[int]], rooms: Sequence[int], stride: int) -> list[tuple[int, int]]:
    """Windows of maximal size, each as the indices of the cuts at its ends."""
    sides = list(zip(cuts, rooms, strict=True))
    last, begin, windows = len(cuts[0]) - 1, 0, []
    while True:
        end = min(bisect_right(places, places[begin] + room) - 1 for places, room in sides)
        end = max(end, begin + 1)  # a part that can't be split is one window, even if it is too long
        windows.append((begin, end))
        if end == last:
            return windows
        # The next window shares `stride` tokens with this one, or fewer if it would not extend beyond this one's end.
        begin = max(bisect_left(places, max(places[end] - stride, places[end + 1] - room)) for places, room in sides)
        begin = min(begin, end)


def _words_of_windows(first_pieces: dict[Word, int], stretches: Sequence[range]) -> list[list[Word]]:
    """For each window the words whose first piece is farther from a cut there than in any other window."""
    begins, ends = [tokens.start for tokens in stretches], [tokens.stop for tokens in stretches]
    last = len(stretches) - 1

    def context(window: int, place: int) -> float:
        """Number of tokens between a position and the nearest cut. The ends of the row are no cuts."""
        left = place - begins[window] if window > 0 else math.inf
        right = ends[window] - 1 - place if window < last else math.inf
        return min(left, right)

    words: defaultdict[int, list[Word]] = defaultdict(list)
    for word, place in first_pieces.items():
        holding = range(bisect_right(ends, place), bisect_right(begins, place))
        if holding:
            words[max(holding, key=lambda window: context(window, place))].append(word)
    return [words[window] for window in range(len(stretches))]
