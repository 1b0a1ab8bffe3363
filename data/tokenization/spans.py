"""Text -> tokens of two tokenizers, with the spans that tie them: the columns that `SpanCollator` makes batches of.

Spans are stretches of a text at whose ends two tokenizers agree, found by character offsets. A token of either side
that shares a character with one of the other's is in the same span with it. So a span may be a token on both sides, one
of the teacher's and several of the student's, or, where their cuts cross, several on both. A word that occurs twice
can't be mistaken for its other occurrence, and a token that covers a space more than another still meets it.
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

# A token that is in no span, and the word of a token that stands for no text.
NONE = -1

# A row of which more than this share is unknown to either tokenizer teaches nothing.
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
    """Tokenise texts for a student and a teacher whose vocabularies differ, and tie their tokens by spans.

    The same call again takes the result from datasets' cache. A text with more than `max_length` tokens on either side
    becomes several rows, cut at the same character for both. Rows without text that both tokenizers keep are left out,
    and so are those more than half of whose tokens are unknown to a tokenizer, which are counted and logged.

    Args:
        dataset: with a column of texts; its other columns are dropped.
        tokenizer: the student's.
        teacher_tokenizer: the teacher's; without one, the student's tokens are spans of their own.
        text: column of texts.
        max_length: tokens of a row at most, special ones included; never more than a tokenizer's `model_max_length`.
        num_proc: processes that share the work.

    Returns:
        Columns `input_ids`, `teacher_input_ids`; `spans`, `teacher_spans`: the span of each token, -1 for none;
        `span_words`, `span_characters`: of each span (see `Spans`); `text_id`: a number for each text, the same
        whatever the tokenizers; `length`.

    Raises:
        ValueError: a slow tokenizer, a missing column, what is no text (with the number of the row, from 0), a
            `max_length` without room for text, or no row with text at all.
    """
    check_columns(dataset, [text])
    teacher = None if teacher_tokenizer is None else Encoder(teacher_tokenizer, max_length)
    job = _SpanTokenization(Encoder(tokenizer, max_length), teacher)
    made = job.run(dataset, [text], num_proc)
    kept = made.filter(lambda unknown: not unknown, input_columns="mostly_unknown")
    if not len(kept):
        raise ValueError(f"None of the {len(dataset)} rows holds text that both tokenizers know.")
    if dropped := len(made) - len(kept):
        logger.warning("%d of %d rows were left out: most of their tokens are unknown.", dropped, len(made))
    cut, _, spans, alike = job.totals(kept)
    if cut:
        logger.warning("%d of %d rows hold a word that is too long, and were cut.", cut, len(kept))
    if teacher:
        logger.info("%d of %d spans are one token on both sides.", alike, spans)
    return kept.remove_columns(list(job.notes))


class _SpanTokenization(Tokenization):
    """From one column of texts to columns of tokens and spans."""

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
                raise ValueError(f"Row {index} must hold a text, but holds {text!r}.")
        parts = self._parts([text for text in texts if text and text.strip()])
        ours = self.student.encode(parts)
        theirs = self.teacher.encode(parts) if self.teacher else ours
        made = starmap(self._row, zip(parts, ours, theirs, strict=True))
        return [row for row in made if max(row["span_words"], default=NONE) != NONE]

    def _parts(self, texts: list[str]) -> list[str]:
        """The texts, those that are too long in several parts."""
        ours = self.student.encode_whole(texts)
        theirs = self.teacher.encode_whole(texts) if self.teacher else ours
        limits = self.student.room, (self.teacher or self.student).room
        parts = []
        for text, *encodings in zip(texts, ours, theirs, strict=True):
            fits = all(len(each.ids) <= limit for each, limit in zip(encodings, limits, strict=True))
            cut = [text] if fits else cut_text(text, tuple(encodings), limits)
            # Alone, a part may have a token more than in the whole: a space before its first word.
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
    """The share of unknown tokens among those that stand for text."""
    tokens = [i for i, text in zip(encoding.ids, encoding.sequence_ids, strict=True) if text is not None]
    return tokens.count(encoder.tokenizer.unk_token_id) / max(len(tokens), 1)


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
    spans = [[NONE] * len(encoding.ids) for encoding in (student, teacher)]
    word_starts = [start for start, _ in spans_of_text(text)]
    words, characters = [], []
    for start, end, members in _runs((student, teacher)):
        if not all(members):
            continue
        for side, tokens in zip(spans, members, strict=True):
            for token in tokens:
                side[token] = len(words)
        # A byte-level token holds the space before its word.
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
    """Cut a text where both tokenizers cut it, so that neither makes more tokens of a part than it may.

    Cuts between words, where a part has room for one. Whitespace between them goes to the part after it if any token
    covers it: so the parts, encoded by themselves, mostly have the tokens that they have in the whole text.

    Args:
        text: the text.
        encodings: of the whole text by both tokenizers, without special tokens.
        limits: how many tokens, special ones not counted, a part may have on either side.
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
    """Runs of tokens that share characters with one another: first character, end, and the tokens of either side.

    Tokens that stand for no text are in none.
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
