"""What a sentence encoder needs of the tokens that it reads as a teacher: its prompt, and no more than it takes.

Rows are tokenised before a trainer sees them.
"""

from collections.abc import Sequence

import datasets
import numpy as np
import pyarrow.compute as pc
from transformers import PreTrainedModel

from ...modeling.encoding import SentenceEncoder


def check_prompts(
    teachers: Sequence[PreTrainedModel | SentenceEncoder],
    train_dataset: datasets.Dataset | None,
    eval_dataset: datasets.Dataset | dict[str, datasets.Dataset] | None,
) -> None:
    """Refuse tokenised rows of which a teacher would make other embeddings than `SentenceTransformer.encode`.

    Raises:
        ValueError: rows that lack the default prompt of a teacher, or whose tokens can't be looked at for it; rows of
            more tokens than a teacher cuts texts at.
    """
    evaluated = eval_dataset.values() if isinstance(eval_dataset, dict) else [eval_dataset]
    for teacher in teachers:
        for dataset in (train_dataset, *evaluated):
            if dataset is not None and isinstance(teacher, SentenceEncoder):
                _check_prompt(teacher, dataset)
                _check_lengths(teacher, dataset)


def _ids_column(dataset: datasets.Dataset) -> str:
    """Where a teacher's tokens stand, if they do."""
    return "teacher_input_ids" if "teacher_input_ids" in dataset.column_names else "input_ids"


def _check_prompt(encoder: SentenceEncoder, dataset: datasets.Dataset) -> None:
    prompt = encoder.modules.prompt()
    if not prompt:
        return
    # The prompt's last token may be another where the text after it begins.
    wanted = encoder.prompt_tokens(prompt)[:-1]
    way_out = f"Its texts begin with {prompt!r}: pass teacher_prompt={prompt!r} to tokenize() or tokenize_groups()."
    if not isinstance(dataset, datasets.Dataset):
        raise ValueError(f"A teacher with a prompt needs a datasets.Dataset, not {type(dataset).__name__}. {way_out}")
    column = _ids_column(dataset)
    if column not in dataset.column_names:
        raise ValueError(f"The rows hold no teacher_input_ids for the teacher. {way_out}")
    if (row := _first_without(dataset, column, wanted)) is not None:
        raise ValueError(f"Row {row} does not begin with the teacher's prompt. {way_out}")


def _check_lengths(encoder: SentenceEncoder, dataset: datasets.Dataset) -> None:
    if not isinstance(dataset, datasets.Dataset):
        return  # its batches are looked at one by one
    column = _ids_column(dataset)
    # So are rows that were padded before: without their padding.
    padded = column.replace("input_ids", "attention_mask") in dataset.column_names
    if column in dataset.column_names and not padded:
        found = _first_longer(dataset, column, encoder.max_length)
        if found is not None:
            row, length = found
            raise ValueError(f"Row {row} has {too_long(length, encoder.max_length)}")


def too_long(length: int, longest: int) -> str:
    """The end of an error about a row of `length` tokens, where the teacher makes embeddings of at most `longest`."""
    return (
        f"{length} tokens, but the teacher cuts texts at {longest} (max_seq_length), as SentenceTransformer does: pass "
        f"max_length={longest} to tokenize() or tokenize_groups(), or raise max_seq_length of a SentenceTransformer "
        "that is handed over."
    )


def _first_longer(dataset: datasets.Dataset, column: str, longest: int) -> tuple[int, int] | None:
    """The first row of more than `longest` token ids, and how many it has."""
    seen = 0
    for batch in dataset.select_columns(column).with_format("arrow").iter(batch_size=10_000):
        lengths = pc.list_value_length(batch[column].combine_chunks()).to_numpy(zero_copy_only=False)
        if (lengths > longest).any():
            row = int((lengths > longest).argmax())
            return seen + row, int(lengths[row])
        seen += len(lengths)
    return None


def _first_without(dataset: datasets.Dataset, column: str, wanted: Sequence[int]) -> int | None:
    """The first row whose ids don't begin with those wanted."""
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
