"""Text -> tokens of two tokenizers, with the spans that tie them: the columns that `SpanCollator` makes batches of."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from dataclasses import dataclass
from itertools import starmap

import pyarrow.compute as pc
from datasets import Dataset, Features, List, Value
from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase

from ..fingerprints import fingerprint
from .encoder import Encoder
from .spans import NONE, cut_text, find_spans

logger = logging.getLogger(__name__)

# What became of each row, in columns until it is counted (see `tokenization`).
_NOTES = ("was_cut", "mostly_unknown", "spans_in_all", "one_to_one")

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
    if not isinstance(dataset, Dataset):
        raise ValueError(f"tokenize_spans takes a datasets.Dataset, but got a {type(dataset).__name__}.")
    if text not in dataset.column_names:
        raise ValueError(f"The dataset has no column {text!r}, only {', '.join(dataset.column_names)}.")
    teacher = None if teacher_tokenizer is None else Encoder(teacher_tokenizer, max_length)
    job = _SpanTokenization(Encoder(tokenizer, max_length), teacher)
    made = (
        dataset.select_columns(text)
        .with_format(None)
        .map(
            job,
            batched=True,
            with_indices=True,
            input_columns=text,
            remove_columns=[text],
            features=job.features,
            num_proc=num_proc,
            new_fingerprint=job.fingerprint(dataset, text),
            desc="Tokenising",
        )
    )
    kept = made.filter(lambda unknown: not unknown, input_columns="mostly_unknown")
    _report(len(dataset), made, kept, job)
    return kept.remove_columns(list(_NOTES))


@dataclass(frozen=True)
class _SpanTokenization:
    """The function that `datasets.map` runs, from texts to columns of tokens and spans."""

    student: Encoder
    teacher: Encoder | None

    @property
    def features(self) -> Features:
        """The columns of the result, and the notes beside them."""
        ids = List(Value("int32"))
        theirs = {"teacher_input_ids": ids, "teacher_spans": ids} if self.teacher else {}
        ours = {"input_ids": ids, "spans": ids, "span_words": ids, "span_characters": ids}
        numbers = {"length": Value("int32"), "text_id": Value("int64")}
        return Features(ours | theirs | numbers | {name: Value("int32") for name in _NOTES})

    def fingerprint(self, dataset: Dataset, text: str) -> str:
        """A name of the result, which changes with the rows and the tokenizers."""
        return fingerprint(dataset, text, [encoder and encoder.description for encoder in (self.student, self.teacher)])

    def __call__(self, texts: list[str], indices: list[int]) -> dict[str, list]:
        for text, index in zip(texts, indices, strict=True):
            if not isinstance(text, str | None):
                raise ValueError(f"Row {index} must hold a text, but holds {text!r}.")
        parts = self._parts([text for text in texts if text and text.strip()])
        ours = self.student.encode(parts)
        theirs = self.teacher.encode(parts) if self.teacher else ours
        made = starmap(self._row, zip(parts, ours, theirs, strict=True))
        rows = [row for row in made if max(row["span_words"], default=NONE) != NONE]
        return {name: [row[name] for row in rows] for name in self.features}

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


def _report(rows: int, made: Dataset, kept: Dataset, job: _SpanTokenization) -> None:
    """Log what was left out, cut and matched."""
    if not len(kept):
        raise ValueError(f"None of the {rows} rows holds text that both tokenizers know.")
    if dropped := len(made) - len(kept):
        logger.warning("%d of %d rows were left out: most of their tokens are unknown.", dropped, len(made))
    notes = kept.select_columns(list(_NOTES)).with_format("arrow")[:]
    cut, spans, alike = (pc.sum(notes[name]).as_py() for name in ("was_cut", "spans_in_all", "one_to_one"))
    if cut:
        logger.warning("%d of %d rows hold a word that is too long, and were cut.", cut, len(kept))
    if job.teacher:
        logger.info("%d of %d spans are one token on both sides.", alike, spans)
