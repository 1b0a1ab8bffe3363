"""Checks that the models can read the tokens of all rows, and that the rows begin with an encoder's prompt.

A lookup of a token or position that a model doesn't have would fail in the middle of a run.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import datasets
import numpy as np
import pyarrow.compute as pc
from transformers import PreTrainedModel
from transformers.utils import logging

from ...collators import real_tokens
from ...data import arrow_parts
from ...modeling import StaticModel
from ...modeling.encoding import SentenceEncoder, position_count
from ..teachers import too_long

logger = logging.get_logger(__name__)


def check_tokens(rows: Any, readers: Iterable[tuple[str, PreTrainedModel]]) -> None:
    """Refuse tokenised rows that a model can't read. Rows of a stream are not checked.

    Args:
        rows: a dataset of a trainer.
        readers: `(role, model)`, where role is `"student"` or `"teacher"`.
    """
    for role, model in readers if isinstance(rows, datasets.Dataset) else ():
        column = _ids_column(rows, role)
        if column is None:
            continue
        positions, vocabulary = position_count(model), vocabulary_size(model)
        for numbers, lengths, ids in _texts_in_parts(rows, column):
            if positions is not None and (longest := int(lengths.max())) > positions:
                raise ValueError(
                    f"row {numbers[lengths.argmax()]} has {longest} tokens, but the {role}, a {type(model).__name__}, "
                    f"has positions for {positions}. Pass max_length={positions} to the function that tokenises."
                )
            if ids.min(initial=0) < 0:
                text = np.searchsorted(lengths.cumsum(), ids.argmin(), side="right")
                raise ValueError(f"row {numbers[text]} holds the token {ids.min()}. Tokens are numbers from 0.")
            if (highest := int(ids.max(initial=0))) >= vocabulary:
                text = np.searchsorted(lengths.cumsum(), ids.argmax(), side="right")
                raise ValueError(
                    f"row {numbers[text]} holds the token {highest}, but the {role}, a {type(model).__name__}, has "
                    f"embeddings for the tokens 0 to {vocabulary - 1}. If tokens were added to its tokenizer, call its "
                    "resize_token_embeddings(len(tokenizer)) and train it first. Otherwise, use its own tokenizer."
                )


def vocabulary_size(model: PreTrainedModel) -> float:
    """Number of tokens that a model has embeddings for. CANINE has no limit: it hashes the numbers of characters."""
    size = getattr(model.config, "vocab_size", None)
    return math.inf if size is None else size


def check_known(rows: Any, student: PreTrainedModel, name: str) -> None:
    """Warn of texts whose tokens are all unknown to a static student: it embeds them as zeros and learns nothing from
    them. Refuse rows that have no other texts. Rows of a stream, and other students, are not checked.

    Args:
        rows: a dataset of a trainer.
        name: the dataset's name in messages.

    Raises:
        ValueError: no text has a known token.
    """
    unknown = student.config.unk_token_id if isinstance(student, StaticModel) else None
    column = _ids_column(rows, "student") if isinstance(rows, datasets.Dataset) else None
    if unknown is None or column is None:
        return
    texts, empty = 0, []
    for numbers, lengths, ids in _texts_in_parts(rows, column):
        ends, known = lengths.cumsum(), np.append(0, (ids != unknown).cumsum())
        empty.extend(numbers[known[ends] == known[ends - lengths]].tolist())
        texts += len(lengths)
    if empty and len(empty) == texts:
        raise ValueError(
            f"The {name} rows: all tokens of all texts are unknown to the student's tokenizer. A static student embeds "
            "such texts as zeros and learns nothing from them. Give it a tokenizer for these texts."
        )
    if empty:
        logger.warning_once(
            "%d of %d texts of the %s rows have only unknown tokens (first: row %d). A static student embeds them as "
            "zeros and learns nothing from them.",
            *(len(empty), texts, name, empty[0]),
        )


def check_sentence_rows(encoder: SentenceEncoder, dataset: datasets.Dataset, *, role: str) -> None:
    """Refuse tokenised rows whose embeddings would differ from those of `SentenceTransformer.encode`."""
    column = _ids_column(dataset, role)
    _check_prompt(encoder, dataset, column, role)
    if role == "teacher":
        _check_lengths(encoder, dataset, column)


def _check_prompt(encoder: SentenceEncoder, dataset: datasets.Dataset, column: str | None, role: str) -> None:
    prompt = encoder.modules.prompt()
    if not prompt:
        return
    # The prompt's last token may differ if text follows.
    wanted = encoder.prompt_tokens(prompt)[:-1]
    passed = f"prompt={prompt!r} to tokenize()"
    if role == "teacher":
        passed = f"teacher_prompt={prompt!r} to tokenize() or tokenize_groups()"
    way_out = f"Its texts must begin with {prompt!r}: pass {passed}."
    if not isinstance(dataset, datasets.Dataset):
        raise ValueError(f"A {role} with a prompt needs a datasets.Dataset, not {type(dataset).__name__}. {way_out}")
    if role == "student" and column == "members":
        raise ValueError(
            f"Groups of texts don't support the student's prompt {prompt!r}. Train on single texts (DistillTrainer, "
            "CKDTrainer), or without the prompt."
        )
    if column in (None, "members"):
        needed = "teacher_input_ids" if role == "teacher" else "input_ids"
        raise ValueError(f"The rows hold no {needed} for the {role}. {way_out}")
    for numbers, lengths, ids in _texts_in_parts(dataset, column):
        starts, begins = lengths.cumsum() - lengths, lengths >= len(wanted)
        begins[begins] = (ids[starts[begins][:, None] + np.arange(len(wanted))] == wanted).all(1)
        if not begins.all():
            raise ValueError(f"Row {numbers[begins.argmin()]} does not begin with the {role}'s prompt. {way_out}")


def _check_lengths(encoder: SentenceEncoder, dataset: datasets.Dataset, column: str | None) -> None:
    if not isinstance(dataset, datasets.Dataset) or column in (None, "members"):  # it checks each batch of a stream
        return
    for numbers, lengths, _ in _texts_in_parts(dataset, column):
        if (long := lengths > encoder.max_length).any():
            row = long.argmax()
            raise ValueError(f"Row {numbers[row]} has {too_long(lengths[row], encoder.max_length)}")


def _ids_column(rows: Any, role: str) -> str | None:
    """Name of the column with the tokens that the student or the teacher reads."""
    own = ("teacher_input_ids",) if role == "teacher" else ()
    columns = getattr(rows, "column_names", None) or ()
    return next((name for name in (*own, "members", "input_ids") if name in columns), None)


def _texts_in_parts(rows: datasets.Dataset, column: str) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Iterate over the rows in parts: the row number and the length of each text, and the tokens of all texts.

    Padding is left out, as by the collator.

    Raises:
        ValueError: a text is null.
    """
    mask = "attention_mask" if column == "input_ids" else "teacher_attention_mask"
    masks = {mask} & {*rows.column_names} if column != "members" else ()
    for start, part in arrow_parts(rows, column, *masks):
        texts, numbers = part[column], np.arange(start, start + len(part[column]))
        if column == "members":
            numbers, texts = numbers[pc.list_parent_indices(texts).to_numpy()], pc.list_flatten(texts)
        if texts.null_count:
            raise ValueError(f"row {numbers[pc.index(texts.is_null(), True).as_py()]} has no tokens (None).")
        if len(texts):
            yield numbers, *real_tokens(texts, part.get(mask), start)
