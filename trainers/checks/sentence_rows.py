"""Checks that tokenised rows begin with a sentence encoder's prompt, and that they are not too long for a teacher."""

from collections.abc import Sequence

import datasets
import numpy as np
import pyarrow.compute as pc

from ...modeling.encoding import SentenceEncoder
from ..teachers import too_long


def check_sentence_rows(encoder: SentenceEncoder, dataset: datasets.Dataset, *, role: str) -> None:
    """Refuse tokenised rows whose embeddings would differ from those of `SentenceTransformer.encode`.

    Args:
        encoder: the teacher or the student.
        dataset: a dataset of a trainer.
        role: `"teacher"` or `"student"`.

    Raises:
        ValueError: rows lack the encoder's default prompt, or can't be checked for it; or rows have more tokens than
            the teacher's maximum length.
    """
    column = _ids_column(dataset, role)
    _check_prompt(encoder, dataset, column, role)
    if role == "teacher":
        _check_lengths(encoder, dataset, column)


def _ids_column(dataset: datasets.Dataset, role: str) -> str:
    """Name of the column with the tokens for this role."""
    own = "teacher_input_ids"
    return own if role == "teacher" and own in (getattr(dataset, "column_names", None) or ()) else "input_ids"


def _check_prompt(encoder: SentenceEncoder, dataset: datasets.Dataset, column: str, role: str) -> None:
    prompt = encoder.modules.prompt()
    if not prompt:
        return
    # The prompt's last token may differ if text follows.
    wanted = encoder.prompt_tokens(prompt)[:-1]
    way_out = f"Its texts must begin with {prompt!r}: pass prompt={prompt!r} to tokenize()."
    if role == "teacher":
        way_out = (
            f"Its texts must begin with {prompt!r}: pass teacher_prompt={prompt!r} to tokenize() or tokenize_groups()."
        )
    if not isinstance(dataset, datasets.Dataset):
        raise ValueError(f"A {role} with a prompt needs a datasets.Dataset, not {type(dataset).__name__}. {way_out}")
    if role == "student" and "members" in dataset.column_names:
        raise ValueError(
            f"Groups of texts don't support the student's prompt {prompt!r}. Train on single texts (DistillTrainer, "
            "CKDTrainer), or without the prompt."
        )
    if column not in dataset.column_names:
        wanted_column = "teacher_input_ids" if role == "teacher" else column
        raise ValueError(f"The rows hold no {wanted_column} for the {role}. {way_out}")
    if (row := _first_without(dataset, column, wanted)) is not None:
        raise ValueError(f"Row {row} does not begin with the {role}'s prompt. {way_out}")


def _check_lengths(encoder: SentenceEncoder, dataset: datasets.Dataset, column: str) -> None:
    if not isinstance(dataset, datasets.Dataset):
        return  # the teacher checks each batch
    # The teacher also checks rows that were padded before, after their padding is removed.
    padded = column.replace("input_ids", "attention_mask") in dataset.column_names
    if column in dataset.column_names and not padded:
        found = _first_longer(dataset, column, encoder.max_length)
        if found is not None:
            row, length = found
            raise ValueError(f"Row {row} has {too_long(length, encoder.max_length)}")


def _first_longer(dataset: datasets.Dataset, column: str, longest: int) -> tuple[int, int] | None:
    """The first row with more than `longest` token ids, and its length."""
    seen = 0
    for batch in dataset.select_columns(column).with_format("arrow").iter(batch_size=10_000):
        lengths = pc.list_value_length(batch[column].combine_chunks()).to_numpy(zero_copy_only=False)
        if (lengths > longest).any():
            row = int((lengths > longest).argmax())
            return seen + row, int(lengths[row])
        seen += len(lengths)
    return None


def _first_without(dataset: datasets.Dataset, column: str, wanted: Sequence[int]) -> int | None:
    """The first row whose ids don't begin with `wanted`."""
    seen = 0
    for batch in dataset.select_columns(column).with_format("arrow").iter(batch_size=10_000):
        ids = batch[column].combine_chunks()
        long = pc.greater_equal(pc.list_value_length(ids), len(wanted))
        begin = pc.list_flatten(pc.list_slice(ids.filter(long), 0, len(wanted))).to_numpy(zero_copy_only=False)
        fits = np.zeros(len(ids), dtype=bool)
        fits[long.to_numpy(zero_copy_only=False)] = (begin.reshape(-1, len(wanted)) == np.asarray(wanted)).all(1)
        if not fits.all():
            return seen + int(fits.argmin())
        seen += len(ids)
    return None
