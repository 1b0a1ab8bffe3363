"""Tokenizes texts with two tokenizers and aligns their tokens by spans, for `SpanCollator`.

Spans are found by character offsets: two tokens that share a character are in the same span. So both tokenizers have
token boundaries at the ends of a span. A span may have one token on both sides, one token of the teacher and several of
the student, or, if token boundaries cross, several tokens on both sides. Repeated words can't be confused, and tokens
are aligned even if one of them includes a space that the other doesn't.
"""

import hashlib
import logging
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import starmap
from typing import Any

from datasets import Dataset, List, Value
from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase

from .encoder import Encoder
from .tokenization import Tokenization, check_columns
from .words import spans_of_text

logger = logging.getLogger(__name__)

# The span of a token without a span, and the word of a special token.
NONE = -1

# Rows with a larger share of unknown tokens on either side are left out.
_MOST_UNKNOWN = 0.5


def tokenize_spans(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    teacher_tokenizer: PreTrainedTokenizerBase | None = None,
    text: str = "text",
    max_length: int = 128,
    num_proc: int | None = None,
) -> Dataset:
    """Tokenize texts for a student and a teacher with different vocabularies, and align their tokens by spans.

    Repeated calls load the result from datasets' cache. A text with more than `max_length` tokens on either side
    becomes several rows, split at the same character on both sides. Rows without text are left out, and so are rows
    with more than half unknown tokens, whose number is logged.

    Args:
        dataset: a dataset with a column of texts. Its other columns are dropped.
        tokenizer: the student's tokenizer.
        teacher_tokenizer: the teacher's tokenizer. If None, every token of the student is a span.
        text: name of the column of texts.
        max_length: maximal number of tokens of a row, special tokens included; lowered to the tokenizers'
            `model_max_length`.
        num_proc: number of processes.

    Returns:
        Columns `input_ids`, `teacher_input_ids`; `spans`, `teacher_spans`: the span of each token, -1 for none;
        `span_words`, `span_characters`: word and number of characters of each span (see `Spans`); `text_id`: an id of
        each text that doesn't depend on the tokenizers; `length`.

    Raises:
        ValueError: a tokenizer is slow, the column is missing, a value is not a text (with the number of the row, from
            0), `max_length` leaves no room for text, or no row has text.
    """
    check_columns(dataset, [text])
    teacher = None if teacher_tokenizer is None else Encoder(teacher_tokenizer, max_length)
    job = _SpanTokenization(Encoder(tokenizer, max_length), teacher)
    made = job.run(dataset, [text], num_proc)
    kept = made.filter(lambda unknown: not unknown, input_columns="mostly_unknown")
    if not len(kept):
        raise ValueError(f"None of the {len(dataset)} rows has text that both tokenizers know.")
    if dropped := len(made) - len(kept):
        logger.warning("%d of %d rows were left out: most of their tokens are unknown.", dropped, len(made))
    cut, _, spans, alike = job.totals(kept)
    if cut:
        logger.warning("%d of %d rows have a word that is too long and were truncated.", cut, len(kept))
    if teacher:
        logger.info("%d of %d spans are one token on both sides.", alike, spans)
    return kept.remove_columns(list(job.notes))


class _SpanTokenization(Tokenization):
    """Converts a column of texts to columns of tokens and spans."""

    notes = ("was_cut", "mostly_unknown", "spans_in_all", "one_to_one")

    @property
    def columns(self) -> dict[str, Any]:
        ids = List(Value("int32"))
        ours = ("input_ids", "spans", "span_words", "span_characters")
        theirs = ("teacher_input_ids", "teacher_spans") if self.teacher else ()
        return dict.fromkeys((*ours, *theirs), ids) | {"length": Value("int32"), "text_id": Value("int64")}

    def tokenize(self, columns: dict[str, list], indices: list[int]) -> list[dict[str, Any]]:
        (texts,) = columns.values()
        for text, index in zip(texts, indices, strict=True):
            if not isinstance(text, str | None):
                raise ValueError(f"Row {index} must be a text, but is {text!r}.")
        parts = self._parts([text for text in texts if text and text.strip()])
        ours = self.student.encode(parts)
        theirs = self.teacher.encode(parts) if self.teacher else ours
        made = starmap(self._row, zip(parts, ours, theirs, strict=True))
        return [row for row in made if max(row["span_words"], default=NONE) != NONE]

    def _parts(self, texts: list[str]) -> list[str]:
        """The texts, with texts that are too long split into parts."""
        ours = self.student.encode_whole(texts)
        theirs = self.teacher.encode_whole(texts) if self.teacher else ours
        limits = self.student.room, (self.teacher or self.student).room
        parts = []
        for text, *encodings in zip(texts, ours, theirs, strict=True):
            fits = all(len(each.ids) <= limit for each, limit in zip(encodings, limits, strict=True))
            cut = [text] if fits else cut_text(text, tuple(encodings), limits)
            # A part may have one more token than in the whole text: a space before its first word.
            parts += cut if len(cut) == 1 else self._parts(cut)
        return [part for part in parts if part.strip()]

    def _row(self, text: str, ours: Encoding, theirs: Encoding) -> dict[str, object]:
        spans = find_spans(text, ours, theirs)
        unknown = max(_unknown_share(self.student, ours), _unknown_share(self.teacher or self.student, theirs))
        counts = Counter(spans.student), Counter(spans.teacher)
        return {
            "input_ids": ours.ids,
            "spans": spans.student,
            "span_words": spans.words,
            "span_characters": spans.characters,
            "teacher_input_ids": theirs.ids,
            "teacher_spans": spans.teacher,
            "length": len(ours.ids),
            "text_id": int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), signed=True),
            "was_cut": bool(ours.overflowing or theirs.overflowing),
            "mostly_unknown": unknown > _MOST_UNKNOWN,
            "spans_in_all": len(spans.words),
            "one_to_one": sum(counts[0][span] == counts[1][span] == 1 for span in range(len(spans.words))),
        }


def _unknown_share(encoder: Encoder, encoding: Encoding) -> float:
    """The share of unknown tokens among the tokens of the text."""
    tokens = [i for i, text in zip(encoding.ids, encoding.sequence_ids, strict=True) if text is not None]
    return tokens.count(encoder.tokenizer.unk_token_id) / max(len(tokens), 1)


@dataclass(frozen=True)
class Spans:
    """The spans of one row, in the order of the text.

    Attributes:
        student: the span of each of the student's tokens; `NONE` for a token without a counterpart.
        teacher: the span of each of the teacher's tokens; `NONE` for a token without a counterpart.
        words: for each span, the word, separated by whitespace, in which it begins; `NONE` for special tokens.
        characters: for each span, its number of characters without whitespace.
    """

    student: list[int]
    teacher: list[int]
    words: list[int]
    characters: list[int]


def find_spans(text: str, student: Encoding, teacher: Encoding) -> Spans:
    """The spans of one text that was encoded by both tokenizers.

    Special tokens that the tokenizers added are paired in order as separate spans, if both sides have the same number.
    """
    spans = [[NONE] * len(encoding.ids) for encoding in (student, teacher)]
    word_starts = [start for start, _ in spans_of_text(text)]
    words, characters = [], []
    for start, end, members in _runs((student, teacher)):
        if not all(members):
            continue
        for side, tokens in zip(spans, members, strict=True):
            for token in tokens:
                side[token] = len(words)
        # A byte-level token includes the space before its word.
        first_character = next((at for at in range(start, end) if not text[at].isspace()), start)
        words.append(max(bisect_right(word_starts, first_character) - 1, 0))
        characters.append(len("".join(text[start:end].split())))
    added = [[i for i, text in enumerate(each.sequence_ids) if text is None] for each in (student, teacher)]
    if len(added[0]) == len(added[1]):
        for ours, theirs in zip(*added, strict=True):
            spans[0][ours] = spans[1][theirs] = len(words)
            words.append(NONE)
            characters.append(0)
    return Spans(*spans, words, characters)


def cut_text(text: str, encodings: tuple[Encoding, Encoding], limits: tuple[int, int]) -> list[str]:
    """Split a text at token boundaries of both tokenizers, so that each part is within the limits of both.

    Splits between words if a part has room for at least one word. If a token covers the whitespace between two words,
    it goes to the second part. So the parts, encoded separately, mostly have the same tokens as in the whole text.

    Args:
        text: the text.
        encodings: encodings of the whole text by both tokenizers, without special tokens.
        limits: maximal number of tokens of a part on each side, without special tokens.
    """
    parts, begin, used, last_word, stretch = [], 0, [0, 0], (0, [0, 0]), ""
    for start, end, members in _runs(encodings):
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


def _runs(encodings: Iterable[Encoding]) -> list[tuple[int, int, tuple[list[int], list[int]]]]:
    """Runs of tokens that share characters: start, end, and the tokens of each side.

    Tokens without text are in no run.
    """
    tokens = sorted(
        (start, end, token, side)
        for side, encoding in enumerate(encodings)
        for token, (text, (start, end)) in enumerate(zip(encoding.sequence_ids, encoding.offsets, strict=True))
        if text is not None and end > start
    )
    found: list[tuple[int, int, tuple[list[int], list[int]]]] = []
    for start, end, token, side in tokens:
        if found and start < found[-1][1]:
            first, last, members = found[-1]
            found[-1] = first, max(last, end), members
        else:
            found.append((start, end, ([], [])))
        found[-1][2][side].append(token)
    return found
