"""Checks that tokenised rows begin with a sentence encoder's prompt, and that they are not too long for a teacher."""

import datasets
import numpy as np

from ...modeling.encoding import SentenceEncoder
from ..teachers import too_long
from .tokens import ids_column, is_padded, texts_in_parts


def check_sentence_rows(encoder: SentenceEncoder, dataset: datasets.Dataset, *, role: str) -> None:
    """Refuse tokenised rows whose embeddings would differ from those of `SentenceTransformer.encode`.

    Args:
        encoder: the teacher or the student.
        dataset: a dataset of a trainer.
        role: `"teacher"` or `"student"`.
    """
    column = ids_column(dataset, role)
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
    for numbers, lengths, ids in texts_in_parts(dataset, column):
        starts, begins = lengths.cumsum() - lengths, lengths >= len(wanted)
        begins[begins] = (ids[starts[begins][:, None] + np.arange(len(wanted))] == wanted).all(1)
        if not begins.all():
            raise ValueError(f"Row {numbers[begins.argmin()]} does not begin with the {role}'s prompt. {way_out}")


def _check_lengths(encoder: SentenceEncoder, dataset: datasets.Dataset, column: str | None) -> None:
    # The teacher checks each batch of a stream, and rows that were padded before, after their padding is removed.
    if not isinstance(dataset, datasets.Dataset) or column in (None, "members") or is_padded(dataset, column):
        return
    for numbers, lengths, _ in texts_in_parts(dataset, column):
        if (long := lengths > encoder.max_length).any():
            row = long.argmax()
            raise ValueError(f"Row {numbers[row]} has {too_long(lengths[row], encoder.max_length)}")
