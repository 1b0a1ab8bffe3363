"""A teacher's prompt must stand in the tokens that it reads: rows are tokenised before a trainer sees them."""

from collections.abc import Iterable, Sequence

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
    """Refuse tokenised rows that don't begin with the default prompt of every teacher that has one.

    Raises:
        ValueError: rows that lack the prompt, or whose tokens can't be looked at.
    """
    evaluated = eval_dataset.values() if isinstance(eval_dataset, dict) else [eval_dataset]
    for teacher in teachers:
        if isinstance(teacher, SentenceEncoder):
            _check_prompt(teacher, [train_dataset, *evaluated])


def _check_prompt(encoder: SentenceEncoder, rows: Iterable[datasets.Dataset | None]) -> None:
    prompt = encoder.modules.prompt()
    # The prompt's last token may be another where the text after it begins.
    wanted = encoder.prompt_tokens(prompt)[:-1]
    way_out = f"Its texts begin with {prompt!r}: pass teacher_prompt={prompt!r} to tokenize() or tokenize_groups()."
    for dataset in rows if prompt else ():
        if dataset is None:
            continue
        if not isinstance(dataset, datasets.Dataset):
            raise ValueError(
                f"A teacher with a prompt needs a datasets.Dataset, not {type(dataset).__name__}. {way_out}"
            )
        column = "teacher_input_ids" if "teacher_input_ids" in dataset.column_names else "input_ids"
        if column not in dataset.column_names:
            raise ValueError(f"The rows hold no teacher_input_ids for the teacher. {way_out}")
        if (row := _first_without(dataset, column, wanted)) is not None:
            raise ValueError(f"Row {row} does not begin with the teacher's prompt. {way_out}")


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
