"""Rows that are longer than a model reads, in windows that overlap.

With one tokenizer, windows are those of `transformers.pipeline("token-classification", stride=...)`: each begins
`stride` tokens before the end of the one before it. With two, a window holds the same words for both models, so it is
cut between words. Tokens are those of the whole row, with the tokenizer's special tokens around each window.
"""

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from .encoder import EncodedRow, room_for_text
from .words import Word

# The part of a window that it shares with the next one, where nobody says how much.
_DEFAULT_SHARE = 1 / 4


def stride_within(stride: int | None, max_length: int, *tokenizers: PreTrainedTokenizerBase) -> int:
    """The number of tokens that neighbouring windows share.

    Args:
        stride: as the user gave it; None for a quarter of the tokens of text that a window holds.
        max_length: tokens of a window at most, special ones included; never more than a tokenizer's
            `model_max_length`.
        tokenizers: of the models that read the windows.

    Raises:
        ValueError: not a whole number from 0 to one less than the tokens of text that a window holds.
    """
    room = min(room_for_text(tokenizer, max_length) for tokenizer in tokenizers)
    if stride is None:
        return int(room * _DEFAULT_SHARE)
    if not isinstance(stride, int) or not 0 <= stride < room:
        raise ValueError(
            f"stride={stride!r}, but a window holds {room} tokens of text, so neighbours share from 0 to {room - 1}. "
            "Pass a smaller stride, or a larger max_length."
        )
    return stride


def cut_into_windows(sides: Sequence[EncodedRow], limits: Sequence[int], stride: int) -> list[tuple[EncodedRow, ...]]:
    """Cut a row into windows, if any of its models can't read it whole.

    Args:
        sides: the whole row as each tokenizer encodes it: one, or the student's and the teacher's.
        limits: tokens of a window at most, special ones included, for each of them.
        stride: tokens that neighbouring windows share: exactly, with one tokenizer; with two, as many whole words as
            have no more tokens than that on either side.

    Returns:
        For each window its tokens on each side. A word is among the `first_pieces` of one window only, the one in
        which its first piece is farthest from a cut. With two tokenizers, a word that alone has more tokens than a
        window is cut.
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
    # Totals of the row go to its first window: words in no window, unknown words, and whether tokens were cut off.
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
    """The part of a row that a window holds, and the places of those of its first pieces that count there."""
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
    """For each side the places of tokens that a window may begin at, in order, and the end of the text.

    One tokenizer may be cut before every token, two of them only where a word begins on both sides.
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
    """Windows as large as they may be, each as the numbers of the cuts at its two ends."""
    sides = list(zip(cuts, rooms, strict=True))
    last, begin, windows = len(cuts[0]) - 1, 0, []
    while True:
        end = min(bisect_right(places, places[begin] + room) - 1 for places, room in sides)
        end = max(end, begin + 1)  # what can't be cut is in a window of its own, even if it is too long
        windows.append((begin, end))
        if end == last:
            return windows
        # The next window shares `stride` tokens with this one, or fewer where it would not go beyond this one's end.
        begin = max(bisect_left(places, max(places[end] - stride, places[end + 1] - room)) for places, room in sides)
        begin = min(begin, end)


def _words_of_windows(first_pieces: dict[Word, int], stretches: Sequence[range]) -> list[list[Word]]:
    """For each window the words whose first piece is farther from a cut there than in any other window."""
    begins, ends = [tokens.start for tokens in stretches], [tokens.stop for tokens in stretches]
    last = len(stretches) - 1

    def context(window: int, place: int) -> float:
        """Tokens between a place and the nearer cut; the two ends of the row are no cuts."""
        left = place - begins[window] if window > 0 else math.inf
        right = ends[window] - 1 - place if window < last else math.inf
        return min(left, right)

    words: defaultdict[int, list[Word]] = defaultdict(list)
    for word, place in first_pieces.items():
        holding = range(bisect_right(ends, place), bisect_right(begins, place))
        if holding:
            words[max(holding, key=lambda window: context(window, place))].append(word)
    return [words[window] for window in range(len(stretches))]
