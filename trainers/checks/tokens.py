"""Checks that the models have embeddings and positions for all tokens; a lookup would fail in the middle of a run."""

from collections.abc import Iterable, Iterator
from typing import Any

import datasets
import numpy as np
import pyarrow.compute as pc
from transformers import PreTrainedModel

from ...modeling.encoding import position_count


def check_tokens(rows: Any, readers: Iterable[tuple[str, PreTrainedModel]]) -> None:
    """Refuse tokenised rows that a model can't read. Rows of a stream are not checked.

    Args:
        rows: a dataset of a trainer.
        readers: `(role, model)`, where role is `"student"` or `"teacher"`.
    """
    for role, model in readers if isinstance(rows, datasets.Dataset) else ():
        column = ids_column(rows, role)
        if column is None:
            continue
        positions, vocabulary = position_count(model), model.config.vocab_size
        padded = is_padded(rows, column)
        for numbers, lengths, ids in texts_in_parts(rows, column):
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


def ids_column(rows: Any, role: str) -> str | None:
    """Name of the column with the tokens that the student or the teacher reads."""
    own = ("teacher_input_ids",) if role == "teacher" else ()
    columns = getattr(rows, "column_names", None) or ()
    return next((name for name in (*own, "members", "input_ids") if name in columns), None)


def is_padded(rows: datasets.Dataset, column: str) -> bool:
    """Whether the rows were padded before. The collator removes their padding."""
    return column != "members" and column.replace("input_ids", "attention_mask") in rows.column_names


def texts_in_parts(rows: datasets.Dataset, column: str) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
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
