"""Checks that the models have embeddings and positions for all tokens; a lookup would fail in the middle of a run. And
that a static student knows some of them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow.compute as pc
from transformers import PreTrainedModel
from transformers.utils import logging

from ...modeling import StaticModel
from ...modeling.encoding import position_count

logger = logging.get_logger(__name__)


def check_tokens(rows: Any, readers: Iterable[tuple[str, PreTrainedModel]]) -> None:
    """Refuse tokenised rows that a model can't read. Rows of a stream are not checked.

    Args:
        rows: a dataset of a trainer.
        readers: `(role, model)`, where role is `"student"` or `"teacher"`.

    Raises:
        ValueError: a row has more tokens than a model has positions, or a token for which a model has no embedding.
    """
    for role, model in readers if isinstance(rows, datasets.Dataset) else ():
        column = _ids_column(rows.column_names, role)
        if column is None:
            continue
        positions, vocabulary = position_count(model), model.config.vocab_size
        # The collator removes the padding of rows that were padded before.
        padded = column != "members" and column.replace("input_ids", "attention_mask") in rows.column_names
        for numbers, lengths, ids in _texts(rows, column):
            if positions is not None and not padded and (longest := int(lengths.max())) > positions:
                raise ValueError(
                    f"row {numbers[lengths.argmax()]} has {longest} tokens, but the {role}, a {type(model).__name__}, "
                    f"has positions for {positions}. Pass max_length={positions} to the function that tokenises."
                )
            if (highest := int(ids.max(initial=0))) >= vocabulary:
                text = np.searchsorted(lengths.cumsum(), ids.argmax(), side="right")
                raise ValueError(
                    f"row {numbers[text]} holds the token {highest}, but the {role}, a {type(model).__name__}, has "
                    f"embeddings for the tokens 0 to {vocabulary - 1}. If tokens were added to its tokenizer, call its "
                    "resize_token_embeddings(len(tokenizer)) and train it first. Otherwise, use its own tokenizer."
                )


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
    column = _ids_column(rows.column_names, "student") if isinstance(rows, datasets.Dataset) else None
    if unknown is None or column is None:
        return
    texts, empty = 0, []
    for numbers, lengths, ids in _texts(rows, column):
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


def _ids_column(columns: Sequence[str], role: str) -> str | None:
    """Name of the column with the tokens that a model reads."""
    own = ("teacher_input_ids",) if role == "teacher" else ()
    return next((name for name in (*own, "members", "input_ids") if name in columns), None)


def _texts(rows: datasets.Dataset, column: str) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Iterate over the rows in parts: the row number and the length of each text, and the tokens of all texts."""
    start = 0
    for batch in rows.select_columns(column).with_format("arrow").iter(batch_size=10_000):
        texts = batch[column].combine_chunks()
        numbers = np.arange(start, start + len(texts))
        start += len(texts)
        if column == "members":
            numbers, texts = numbers[pc.list_parent_indices(texts).to_numpy()], pc.list_flatten(texts)
        if len(texts):
            lengths = pc.list_value_length(texts).to_numpy(zero_copy_only=False)
            yield numbers, lengths, pc.list_flatten(texts).to_numpy(zero_copy_only=False)
