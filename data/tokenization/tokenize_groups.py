"""Groups of texts -> their tokens: the columns that `GroupCollator` makes batches of."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import pyarrow.compute as pc
from datasets import Dataset, Features, List, Value
from transformers import PreTrainedTokenizerBase

from ..fingerprints import fingerprint
from .encoder import Encoder

logger = logging.getLogger(__name__)


def tokenize_groups(
    groups: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    teacher_tokenizer: PreTrainedTokenizerBase | None = None,
    max_length: int = 128,
) -> Dataset:
    """Tokenise groups. The same call again takes the result from datasets' cache.

    Args:
        groups: columns of texts, as `read_groups` and `read_parallel` return them.
        tokenizer: the student's.
        teacher_tokenizer: of a teacher that reads the first text of each group, and no other. None if there is none.
        max_length: tokens of a text at most, special ones included; longer ones are cut, and counted.

    Returns:
        Columns `members` (for each text of a group its ids) and `length` (of them together); with a
        `teacher_tokenizer` also `teacher_input_ids`.
    """
    teacher = teacher_tokenizer and Encoder(teacher_tokenizer, max_length)
    job = _Tokenization(Encoder(tokenizer, max_length), tuple(groups.column_names), teacher)
    described = [encoder and encoder.description for encoder in (job.encoder, teacher)]
    made = groups.map(
        job,
        batched=True,
        remove_columns=groups.column_names,
        features=job.features,
        new_fingerprint=fingerprint(groups, described, job.columns),
        desc="Tokenising",
    )
    if cut := pc.sum(made.data.column("cut")).as_py():
        logger.warning("%d of %d texts were cut at %d tokens.", cut, len(made) * len(job.columns), max_length)
    return made.remove_columns("cut")


@dataclass(frozen=True)
class _Tokenization:
    """From columns of texts to one column of their tokens."""

    encoder: Encoder
    columns: tuple[str, ...]
    teacher: Encoder | None

    @property
    def features(self) -> Features:
        """The columns of the result, and the number of texts that were cut."""
        ids, number = List(Value("int32")), Value("int32")
        theirs = {"teacher_input_ids": ids} if self.teacher else {}
        return Features({"members": List(ids), "length": number, "cut": number} | theirs)

    def __call__(self, texts: dict[str, list[str]]) -> dict[str, list]:
        encoded = [self.encoder.encode_texts(texts[column]) for column in self.columns]
        groups = list(zip(*encoded, strict=True))
        made = {
            "members": [[each.ids for each in group] for group in groups],
            "length": [sum(len(each.ids) for each in group) for group in groups],
            "cut": [sum(each.was_cut for each in group) for group in groups],
        }
        if self.teacher:
            made["teacher_input_ids"] = [each.ids for each in self.teacher.encode_texts(texts[self.columns[0]])]
        return made
