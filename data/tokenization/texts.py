"""Tokenizes texts, pairs and lists of words, for `DistillationCollator`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, List, Value
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ...modeling.losses import IGNORED_LABEL
from ..vectors import beside, vectors_of
from .encoder import EncodedRow, Encoder, makes_token_types, same_tokenizer
from .tokenization import Tokenization, check_columns
from .windows import cut_into_windows, stride_within

logger = logging.get_logger(__name__)

# The number of the row that tokens are of, until vectors stand beside them.
_ROW = "row"


def tokenize(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    teacher_tokenizer: PreTrainedTokenizerBase | None = None,
    prompt: str = "",
    teacher_prompt: str = "",
    text: str = "text",
    text_pair: str | None = None,
    words: str | None = None,
    labels: str | None = None,
    vectors: str | None = None,
    max_length: int = 128,
    stride: int | None = None,
    align: bool = False,
    num_proc: int | None = None,
) -> Dataset:
    """Tokenize a dataset for student and teacher. Repeated calls load the result from datasets' cache.

    Rows without text (empty, whitespace, or only characters that a tokenizer drops) are left out. A row of words that
    is longer than `max_length` becomes several rows, overlapping windows. Each word has its label, and its counterpart
    on the other side, only in the window in which it is farthest from a cut. A longer text is truncated unless `stride`
    is given. The numbers of rows that were left out or truncated are logged once in a process.

    Args:
        dataset: a dataset with the columns named below. Its other columns are dropped.
        tokenizer: the student's tokenizer.
        teacher_tokenizer: the teacher's tokenizer. It is ignored if it is the same as the student's (see
            `same_tokenizer`).
        prompt: put before every text for the student ("query: ").
        teacher_prompt: put before every text for the teacher. If it differs from `prompt`, the teacher's tokens are
            separate columns.
        text: column of texts.
        text_pair: column of second texts, for tasks on pairs.
        words: column of lists of words, in place of `text`. They are tokenised as the text that they make with a
            space between them; a word that the tokenizer drops (a zero-width space) becomes its unknown token.
        labels: column of one number per row, or of a list of floats, one for each class, such as [1.0, 0.0, 1.0]; with
            `words`, of one whole number per word, which goes to the word's first piece, and -100 to all else.
        vectors: column of a teacher's vectors of the texts, lists of floats, which take the place of a teacher in all
            that compares embeddings. They become the column `teacher_embedding`; trainers check them.
        max_length: tokens of a row at most, special ones included; never more than a tokenizer's `model_max_length`.
        stride: tokens that neighbouring windows of a row share, as transformers' pipelines count them; below the tokens
            of text that a row holds. With it, long rows of `text` become windows, too. Default: for `words`, a quarter
            of the tokens of text that a row holds.
        align: where the tokenizers differ, also find the first piece of each word on both sides. Words are what
            whitespace separates, or what `words` says; they are matched by character offsets.
        num_proc: processes that share the work.

    Returns:
        Columns `input_ids`, `length`, and as asked: `token_type_ids` (pairs, if a tokenizer makes them), `labels`,
        `teacher_input_ids`, `teacher_token_type_ids`, `student_positions`, `teacher_positions`, `teacher_embedding`.

    Raises:
        ValueError: a tokenizer is slow; a prompt is given for words or pairs; a column is missing; a value has the
            wrong type (with the number of the row, from 0); a row has not one label for each word; `max_length` leaves
            no room for text; `stride` is out of range, or given for rows without windows (pairs, labels of texts,
            prompts); or no row has text.
    """
    if words is not None and text_pair is not None:
        raise ValueError("words= and text_pair= exclude each other: a row is a list of words, or one or two texts.")
    inputs = (words or text, text_pair, labels)
    if (prompt or teacher_prompt) and (words is not None or text_pair is not None or align):
        raise ValueError("Prompts are for single texts: leave out words=, text_pair= and align=.")
    prompts = prompt or teacher_prompt
    if stride is not None and (prompts or text_pair is not None or (words is None and labels is not None)):
        raise ValueError(
            "stride= is for rows of words, or of texts without labels: windows can't share a label, a prompt or a "
            "second text. Without it, long rows are truncated."
        )
    if vectors and (words is not None or stride is not None):
        raise ValueError("vectors= are of whole texts, and rows of words, or with stride=, may become windows of them.")
    check_columns(dataset, (*inputs, vectors))
    pairs = text_pair is not None
    readers_of_types = [tokenizer]
    if prompt != teacher_prompt:
        teacher_tokenizer = teacher_tokenizer or tokenizer
    elif teacher_tokenizer is not None and same_tokenizer(tokenizer, teacher_tokenizer):
        # Both use the student's tokens. But the teacher may need token types (BERT) that the student (DistilBERT)
        # doesn't.
        readers_of_types.append(teacher_tokenizer)
        teacher_tokenizer = None
    in_windows = words is not None or stride is not None
    tokenizers = filter(None, (tokenizer, teacher_tokenizer))
    job = _TextTokenization(
        student=Encoder(tokenizer, max_length, pairs=pairs),
        teacher=teacher_tokenizer and Encoder(teacher_tokenizer, max_length, pairs=pairs),
        prompt=prompt,
        teacher_prompt=teacher_prompt,
        stride=stride_within(stride, max_length, *tokenizers) if in_windows else None,
        text=words or text,
        text_pair=text_pair,
        is_words=bool(words),
        labels=labels,
        label_type=_label_type(dataset, labels, bool(words)),
        token_types=pairs and any(map(makes_token_types, readers_of_types)),
        teacher_token_types=pairs and teacher_tokenizer is not None and makes_token_types(teacher_tokenizer),
        align=align and teacher_tokenizer is not None,
        numbered=vectors is not None,
    )
    result = job.run(dataset, inputs, num_proc)
    _report(dataset, result, job)
    result = result.remove_columns(list(job.notes))
    return _beside_vectors(result, dataset, vectors) if vectors else result


def _beside_vectors(made: Dataset, dataset: Dataset, column: str) -> Dataset:
    """Tokenised rows with the vectors of the rows that they were made of."""
    rows = np.asarray(made.with_format("numpy")[_ROW])
    return beside(made.remove_columns(_ROW), vectors_of(dataset, column, rows))


def _label_type(dataset: Dataset, labels: str | None, are_of_words: bool) -> Value | ClassLabel | List | None:
    """The type of the result's labels. Raises a ValueError if labels of texts are not numbers."""
    if not labels:
        return None
    if are_of_words:
        return List(Value("int32"))
    feature = dataset.features[labels]
    if isinstance(feature, List) and getattr(feature.feature, "dtype", "").startswith("float"):
        return feature
    if not isinstance(feature, Value | ClassLabel) or feature.dtype in ("string", "large_string"):
        raise ValueError(
            f"Labels of texts must be one number per row, but the column {labels!r} holds {feature}. Turn names into "
            "numbers with dataset.class_encode_column(...), digits with dataset.cast_column(...); pass words= for "
            "labels of words."
        )
    return feature


@dataclass(frozen=True)
class _TextTokenization(Tokenization):
    """Converts texts, pairs or lists of words, and their labels.

    Attributes are as the arguments of `tokenize`, but that `text` names the column of words if `is_words`, that
    `stride` is None for rows that are cut, that `label_type` is the type of the labels of the result, and that rows are
    `numbered` by the dataset's where vectors are to stand beside them.
    """

    prompt: str
    teacher_prompt: str
    stride: int | None
    text: str
    text_pair: str | None
    is_words: bool
    labels: str | None
    label_type: Any
    token_types: bool
    teacher_token_types: bool
    align: bool
    numbered: bool

    notes = ("further_window", "was_cut", "words", "words_without", "words_unknown", "words_paired")

    @property
    def columns(self) -> dict[str, Any]:
        ids, types = List(Value("int32")), List(Value("int8"))
        optional = {
            "token_type_ids": self.token_types and types,
            "labels": self.label_type,
            "teacher_input_ids": self.teacher and ids,
            "teacher_token_type_ids": self.teacher_token_types and types,
            "student_positions": self.align and ids,
            "teacher_positions": self.align and ids,
            _ROW: self.numbered and Value("int64"),
        }
        return {"input_ids": ids, "length": Value("int32")} | {name: kind for name, kind in optional.items() if kind}

    def tokenize(self, columns: dict[str, list], indices: list[int]) -> list[dict[str, Any]]:
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        rows = [row | {_ROW: index} for row, index in zip(rows, indices, strict=True) if self._has_text(row, index)]
        ours = self._encode(self.student, rows, self.prompt)
        theirs = self._encode(self.teacher, rows, self.teacher_prompt) if self.teacher else ours
        return [
            self._row(row, window[0], window[-1]) | {"further_window": number > 0}
            for row, mine, yours in zip(rows, ours, theirs, strict=True)
            if mine.has_text and yours.has_text
            for number, window in enumerate(self._windows(mine, yours))
        ]

    def _windows(self, mine: EncodedRow, yours: EncodedRow) -> list[tuple[EncodedRow, ...]]:
        """The windows of a row; the row itself if rows are truncated."""
        if self.stride is None:
            return [(mine, yours)]
        sides, encoders = ((mine, yours), (self.student, self.teacher)) if self.teacher else ((mine,), (self.student,))
        return cut_into_windows(sides, [encoder.max_length for encoder in encoders], self.stride)

    def _has_text(self, row: dict[str, Any], index: int) -> bool:
        """Whether a row has more than whitespace. Raises a ValueError if it isn't text or its labels don't fit."""
        texts = [row[column] for column in (self.text, self.text_pair) if column]
        for value in texts:
            pieces = value if self.is_words else [value]
            if value is not None and not (isinstance(pieces, list) and all(isinstance(p, str) for p in pieces)):
                kind = "a list of words" if self.is_words else "a text"
                raise ValueError(f"Row {index} must have {kind} in the column {self.text!r}, but has {value!r}.")
        if any(value is None or not ("".join(value) if self.is_words else value).strip() for value in texts):
            return False
        if not self.labels:
            return True
        labels = row[self.labels]
        if labels is None:
            raise ValueError(f"Row {index} has no label (None in the column {self.labels!r}). Leave such rows out.")
        if self.is_words and len(labels) != len(row[self.text]):
            raise ValueError(f"Row {index} has {len(row[self.text])} words, but {len(labels)} labels.")
        if self.is_words and not all(isinstance(label, int) for label in labels):
            raise ValueError(f"Row {index}: labels of words must be integers (class ids), but are {labels}.")
        return True

    def _encode(self, encoder: Encoder, rows: list[dict[str, Any]], prompt: str = "") -> list[EncodedRow]:
        texts = [row[self.text] for row in rows]
        if self.is_words:
            return encoder.encode_words(texts)
        texts = [prompt + text for text in texts] if prompt else texts
        pairs = [row[self.text_pair] for row in rows] if self.text_pair else None
        in_windows = self.stride is not None
        return encoder.encode_texts(texts, pairs, find_words=self.align or in_windows, cut=not in_windows)

    def _row(self, row: dict[str, Any], mine: EncodedRow, yours: EncodedRow) -> dict[str, Any]:
        """The values of one row for all columns, including some that may not be requested."""
        shared = [word for word in mine.first_pieces if word in yours.first_pieces] if self.align else []
        made = {
            "input_ids": mine.ids,
            "length": len(mine.ids),
            "token_type_ids": mine.type_ids,
            "labels": self._labels(row, mine),
            "teacher_input_ids": yours.ids,
            "teacher_token_type_ids": yours.type_ids,
            _ROW: row.get(_ROW),
            "was_cut": mine.was_cut or yours.was_cut,
            "words": mine.words,
            "words_without": mine.words - len(set(mine.first_pieces.values())),
            "words_unknown": mine.unknown_words,
            "words_paired": len(shared),
        }
        if self.align:
            made["student_positions"] = [mine.first_pieces[word] for word in shared]
            made["teacher_positions"] = [yours.first_pieces[word] for word in shared]
        return made

    def _labels(self, row: dict[str, Any], encoded: EncodedRow) -> Any:
        labels = row[self.labels] if self.labels else None
        if labels is None or not self.is_words:
            return labels
        placed = [IGNORED_LABEL] * len(encoded.ids)
        for position, word in encoded.words_at.items():
            placed[position] = labels[word]
        return placed


def _report(dataset: Dataset, result: Dataset, job: _TextTokenization) -> None:
    """Log what was left out or truncated, only once, since a run tokenizes the same rows several times."""
    if len(result) == 0:
        raise ValueError(f"None of the {len(dataset)} rows has any text in the column {job.text!r}.")
    further, cut, words, without, unknown, paired = job.totals(result)
    rows = len(result) - further
    limits = ", ".join(str(encoder.max_length) for encoder in (job.student, job.teacher) if encoder)
    if skipped := len(dataset) - rows:
        logger.warning_once("%d of %d rows have no text and were left out.", skipped, len(dataset))
    if further:
        message = "Rows of more than %s tokens were split into windows that share %d tokens: %d rows became %d."
        logger.info(message, limits, job.stride, rows, len(result))
    if cut:
        logger.warning_once("%d of %d rows were cut at %s tokens (%.1f %%).", cut, rows, limits, 100 * cut / rows)
    if without and job.is_words:
        message = "%d of %d words share a token with the word before them and lose their labels."
        logger.warning_once(message, without, words)
    if unknown:
        message = "%d of %d words are dropped by the tokenizer and were replaced by its unknown token."
        logger.warning_once(message, unknown, words)
    if job.align and paired < words:
        logger.warning_once("%d of %d words have no counterpart on the other side.", words - paired, words)
