"""Tokenizes groups of texts, for `GroupCollator`."""

from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, List, Value
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ..vectors import beside, vectors_of
from .encoder import Encoder
from .tokenization import Tokenization, check_columns

logger = logging.get_logger(__name__)


def tokenize_groups(
    groups: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    teacher_tokenizer: PreTrainedTokenizerBase | None = None,
    teacher_prompt: str = "",
    vectors: str | None = None,
    max_length: int = 128,
) -> Dataset:
    """Tokenize groups. Repeated calls load the result from datasets' cache.

    Args:
        groups: dataset from `read_groups` or `read_parallel`: columns of texts, or a query, a list of `documents` and
            optionally a list of their `scores`. It may also have a column of vectors.
        tokenizer: the student's tokenizer.
        teacher_tokenizer: the tokenizer of a teacher that reads only the first text of each group. None if there is no
            such teacher.
        teacher_prompt: prefix of the text that the teacher reads ("query: "). It needs a `teacher_tokenizer`.
        vectors: column of a teacher's vectors of the first text of each group, instead of a teacher (see `tokenize`).
        max_length: maximal number of tokens of a text, special tokens included. The number of truncated texts is
            logged.

    Returns:
        Columns `members` (token ids of each text of a group) and `length` (number of tokens of the group);
        `teacher_input_ids` if there is a `teacher_tokenizer`; `teacher_embedding` if there are `vectors`; `scores` if
        there are any, unchanged.

    Raises:
        ValueError: `groups` is no dataset, a prompt is given without a `teacher_tokenizer`, or `documents` have no
            query or several other columns beside them.
    """
    check_columns(groups, [vectors])
    names = [name for name in groups.column_names if name not in ("documents", "scores", vectors)]
    if "documents" in groups.column_names and len(names) != 1:
        raise ValueError(f"Besides documents and scores, there must be only a query, but there are {names}.")
    teacher = teacher_tokenizer and Encoder(teacher_tokenizer, max_length)
    if teacher_prompt and teacher is None:
        raise ValueError("teacher_prompt= needs teacher_tokenizer=, even if it is the student's tokenizer.")
    texts = [name for name in groups.column_names if name != vectors]
    job = _GroupTokenization(Encoder(tokenizer, max_length), teacher, teacher_prompt, "scores" in texts)
    made = job.run(groups, texts)
    (cut,) = job.totals(made)
    if cut:
        members = made.select_columns("members").with_format("arrow")[:]["members"]
        count = pc.sum(pc.list_value_length(members)).as_py()
        told = "%d of %d texts were cut at %d tokens (%.1f %%)."
        logger.warning_once(told, cut, count, job.student.max_length, 100 * cut / count)
    made = made.remove_columns(list(job.notes))
    return beside(made, vectors_of(groups, vectors, np.arange(len(groups)))) if vectors else made


@dataclass(frozen=True)
class _GroupTokenization(Tokenization):
    """Converts columns of texts to a column of their tokens, and one of the teacher's tokens of the first text."""

    teacher_prompt: str
    scored: bool

    notes = ("cut",)

    @property
    def columns(self) -> dict[str, Any]:
        ids = List(Value("int32"))
        theirs = {"teacher_input_ids": ids} if self.teacher else {}
        scores = {"scores": List(Value("float32"))} if self.scored else {}
        return {"members": List(ids), "length": Value("int32")} | theirs | scores

    def tokenize(self, columns: dict[str, list], indices: list[int]) -> list[dict[str, Any]]:
        anchors = next(column for name, column in columns.items() if name not in ("documents", "scores"))
        texts = (
            [[anchor, *documents] for anchor, documents in zip(anchors, columns["documents"], strict=True)]
            if "documents" in columns
            else list(zip(*(column for name, column in columns.items() if name != "scores"), strict=True))
        )
        encoded = iter(self.student.encode_texts([text for group in texts for text in group]))
        groups = [list(islice(encoded, len(group))) for group in texts]
        theirs = (
            self.teacher.encode_texts([self.teacher_prompt + text for text in anchors])
            if self.teacher
            else [group[0] for group in groups]
        )
        return [
            {
                "members": [text.ids for text in group],
                "length": sum(len(text.ids) for text in group),
                "cut": sum(text.was_cut for text in group),
                "teacher_input_ids": anchor.ids,
                "scores": columns["scores"][row] if self.scored else None,
            }
            for row, (group, anchor) in enumerate(zip(groups, theirs, strict=True))
        ]
