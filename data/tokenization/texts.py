"""Tokenizes texts, pairs and lists of words, for `DistillationCollator`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, LargeList, List, Value
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ...modeling.losses import IGNORED_LABEL
from ..vectors import beside, vectors_of
from .encoder import EncodedRow, Encoder, makes_token_types, same_tokenizer
from .tokenization import Tokenization, check_columns
from .windows import cut_into_windows, stride_within

logger = logging.get_logger(__name__)

# Temporary column: index of the row of `dataset` that the tokens are from, by which vectors are added.
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
        prompt: prefix of every text for the student ("query: ").
        teacher_prompt: prefix of every text for the teacher. If it differs from `prompt`, the teacher's tokens are
            separate columns.
        text: name of the column of texts.
        text_pair: name of the column of second texts, for tasks on pairs.
        words: name of a column of lists of words, instead of `text`. The words are joined by spaces and tokenized as
            one text. A word that the tokenizer drops (a zero-width space) becomes its unknown token.
        labels: name of the column of labels: a number per row, or a list of floats, one per class, such as
            [1.0, 0.0, 1.0]. With `words`, an integer per word; the word's first token gets it, and all other tokens get
            -100. The names of a `ClassLabel` are kept, and trainers compare them with the student's `config.id2label`.
        vectors: name of a column of a teacher's vectors of the texts (lists of floats), which replace the teacher in
            objectives on embeddings. The column becomes `teacher_embedding`. Trainers check the vectors.
        max_length: maximal number of tokens of a row, special tokens included; lowered to the tokenizers'
            `model_max_length`.
        stride: number of tokens that consecutive windows of a row share, as in transformers' pipelines. It must be
            smaller than the number of a row's text tokens. With `stride`, long rows of `text` are split into windows,
            too. Default: for `words`, a quarter of a row's text tokens.
        align: if the tokenizers differ, also find the first token of each word on both sides. Words are separated by
            whitespace, or given by `words`. They are matched by character offsets.
        num_proc: number of processes.

    Returns:
        Columns `input_ids` and `length`, and as requested: `token_type_ids` (for pairs, if a tokenizer makes them),
        `labels`, `teacher_input_ids`, `teacher_token_type_ids`, `student_positions`, `teacher_positions`,
        `teacher_embedding`.

    Raises:
        ValueError: a tokenizer is slow; a prompt is given for words or pairs; a column is missing; a value has the
            wrong type (with the number of the row, from 0); the numbers of words and labels of a row differ;
            `max_length` leaves no room for text; `stride` is out of range, or given for rows without windows (pairs,
            labels of texts, prompts); or no row has text.
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
        raise ValueError("vectors= is for whole texts, but rows with words= or stride= may be split into windows.")
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
    """Add the vectors of the original rows to tokenized rows."""
    rows = np.asarray(made.with_format("numpy")[_ROW])
    return beside(made.remove_columns(_ROW), vectors_of(dataset, column, rows))


def _label_type(dataset: Dataset, labels: str | None, are_of_words: bool) -> Value | ClassLabel | List | None:
    """The type of the result's labels. Raises a ValueError if labels of texts are not numbers."""
    if not labels:
        return None
    feature = dataset.features[labels]
    if are_of_words:
        of_word = getattr(feature, "feature", None)
        # The names of classes are kept for the trainer, which compares them with the student's.
        return List(of_word if isinstance(of_word, ClassLabel) else Value("int32"))
    if isinstance(feature, List) and getattr(feature.feature, "dtype", "").startswith("float"):
        return feature
    if isinstance(feature, List | LargeList):
        raise ValueError(
            f"Labels of texts must be one number per row, or a list of floats, but the column {labels!r} holds "
            f"{feature}. Texts with any number of classes need a float for each class, such as [1.0, 0.0, 1.0]. If "
            f"the lists hold 0 or 1 for each class, call dataset.cast_column({labels!r}, List(Value('float32'))). If "
            f"they hold the ids of a text's classes, pass labels='targets' after dataset.map(lambda row: {{'targets': "
            f"[float(i in row[{labels!r}]) for i in range(number_of_classes)]}}). For labels of words, pass words=."
        )
    if not isinstance(feature, Value | ClassLabel) or feature.dtype in ("string", "large_string"):
        raise ValueError(
            f"Labels of texts must be one number per row, but the column {labels!r} holds {feature}. Turn names into "
            "numbers with dataset.class_encode_column(...), digits with dataset.cast_column(...)."
        )
    return feature


@dataclass(frozen=True)
class _TextTokenization(Tokenization):
    """Converts texts, pairs or lists of words, and their labels.

    The attributes are the arguments of `tokenize`, with these differences:

    - `text` is the column of words if `is_words` is set.
    - `stride` is None for rows that are truncated.
    - `label_type` is the type of the result's labels.
    - `numbered`: whether the result has the index of each row in the dataset, by which vectors are added.
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
            if mine.text and yours.text
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
    limits = ", ".join(dict.fromkeys(str(encoder.max_length) for encoder in (job.student, job.teacher) if encoder))
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
