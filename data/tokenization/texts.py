"""Text -> tokens, once: the columns that `DistillationCollator` makes batches of."""

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
    """Tokenise a dataset for student and teacher. The same call again takes the result from datasets' cache.

    Rows without text (empty, whitespace, or nothing that a tokenizer keeps) are left out. A row of words that is longer
    than `max_length` becomes several rows, windows that overlap; each of its words has its label, and its counterpart
    on the other side, in the one window in which it is farthest from a cut. A longer text is cut, unless there is a
    `stride`. What was left out or cut is counted and logged, once in a process.

    Args:
        dataset: with the columns named below; its other columns are dropped.
        tokenizer: the student's.
        teacher_tokenizer: the teacher's. One that does the same as the student's (see `same_tokenizer`) adds nothing.
        prompt: put before every text for the student ("query: "), and not for the teacher.
        teacher_prompt: put before every text for the teacher, and not for the student. Prompts differ, so its tokens
            are then columns of their own.
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
        ValueError: a slow tokenizer, a prompt for other rows than single texts, a missing column, values of the wrong
            kind (with the number of the row, from 0), other than one label for each word, a `max_length` without room
            for text, a `stride` out of its range or for rows that no window can be made of (pairs, labels of texts,
            prompts), or no row with text at all.
    """
    if words is not None and text_pair is not None:
        raise ValueError("words= and text_pair= exclude each other: a row is a list of words, or one or two texts.")
    inputs = (words or text, text_pair, labels)
    if (prompt or teacher_prompt) and (words is not None or text_pair is not None or align):
        raise ValueError("Prompts go before single texts: leave out words=, text_pair= and align=.")
    prompts = prompt or teacher_prompt
    if stride is not None and (prompts or text_pair is not None or (words is None and labels is not None)):
        raise ValueError(
            "stride= is for rows of words, or of texts without labels: windows can't share a label, a prompt or a "
            "second text. Leave it out, and long rows are cut."
        )
    if vectors and (words is not None or stride is not None):
        raise ValueError("vectors= are of whole texts, and rows of words, or with stride=, may become windows of them.")
    check_columns(dataset, (*inputs, vectors))
    pairs = text_pair is not None
    readers_of_types = [tokenizer]
    if prompt != teacher_prompt:
        teacher_tokenizer = teacher_tokenizer or tokenizer
    elif teacher_tokenizer is not None and same_tokenizer(tokenizer, teacher_tokenizer):
        # The student's tokens serve both, and a teacher may read token types (BERT) where its student (DistilBERT)
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
    """The type of the labels of the result; labels of texts that are no numbers are refused."""
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
    """From texts, pairs of them or lists of words, and their labels.

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
        """What a row becomes: its windows, or the row as it is, cut if need be."""
        if self.stride is None:
            return [(mine, yours)]
        sides, encoders = ((mine, yours), (self.student, self.teacher)) if self.teacher else ((mine,), (self.student,))
        return cut_into_windows(sides, [encoder.max_length for encoder in encoders], self.stride)

    def _has_text(self, row: dict[str, Any], index: int) -> bool:
        """Whether a row holds more than whitespace. Raises if what it holds isn't text, or its labels don't fit."""
        texts = [row[column] for column in (self.text, self.text_pair) if column]
        for value in texts:
            pieces = value if self.is_words else [value]
            if value is not None and not (isinstance(pieces, list) and all(isinstance(p, str) for p in pieces)):
                kind = "a list of words" if self.is_words else "a text"
                raise ValueError(f"Row {index} must hold {kind} in the column {self.text!r}, but holds {value!r}.")
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
            raise ValueError(f"Row {index}: labels of words must be whole numbers (class indices), but are {labels}.")
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
        """What one row adds to each column, some that weren't asked for among them."""
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
    """Log what was left out or cut, once: a run tokenises the same rows for several stages and models."""
    if len(result) == 0:
        raise ValueError(f"None of the {len(dataset)} rows holds any text in the column {job.text!r}.")
    further, cut, words, without, unknown, paired = job.totals(result)
    rows = len(result) - further
    limits = ", ".join(str(encoder.max_length) for encoder in (job.student, job.teacher) if encoder)
    if skipped := len(dataset) - rows:
        logger.warning_once("%d of %d rows hold no text and were left out.", skipped, len(dataset))
    if further:
        told = "Rows of more than %s tokens were cut into windows that share %d: %d rows became %d."
        logger.info(told, limits, job.stride, rows, len(result))
    if cut:
        logger.warning_once("%d of %d rows were cut at %s tokens (%.1f %%).", cut, rows, limits, 100 * cut / rows)
    if without and job.is_words:
        told = "%d of %d words have no token of their own (in one token with the word before), and lose their labels."
        logger.warning_once(told, without, words)
    if unknown:
        logger.warning_once("%d of %d words are dropped by the tokenizer and stand as unknown tokens.", unknown, words)
    if job.align and paired < words:
        logger.warning_once("%d of %d words have no counterpart on the other side.", words - paired, words)
