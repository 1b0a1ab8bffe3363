"""Groups of texts -> their tokens: the columns that `GroupCollator` makes batches of."""

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
    """Tokenise groups. The same call again takes the result from datasets' cache.

    Args:
        groups: columns of texts, or a query, a list of `documents` and perhaps a list of their `scores`, as
            `read_groups` and `read_parallel` return them; and perhaps one of `vectors`.
        tokenizer: the student's.
        teacher_tokenizer: of a teacher that reads the first text of each group, and no other. None if there is none.
        teacher_prompt: put before the text that the teacher reads ("query: "); needs a `teacher_tokenizer`.
        vectors: column of a teacher's vectors of the first text of each group, in place of a teacher that reads it (see
            `tokenize`).
        max_length: tokens of a text at most, special ones included; longer ones are cut, and counted.

    Returns:
        Columns `members` (for each text of a group its ids) and `length` (of them together); with a
        `teacher_tokenizer` also `teacher_input_ids`, with `vectors` `teacher_embedding`; and `scores` as they are.

    Raises:
        ValueError: a prompt without a `teacher_tokenizer`; `documents` without a query, or of several columns.
    """
    names = [name for name in groups.column_names if name not in ("documents", "scores", vectors)]
    if "documents" in groups.column_names and len(names) != 1:
        raise ValueError(f"Beside documents and scores there must be a query alone, but there are {names}.")
    teacher = teacher_tokenizer and Encoder(teacher_tokenizer, max_length)
    if teacher_prompt and teacher is None:
        raise ValueError("teacher_prompt= needs teacher_tokenizer=, be it the student's.")
    check_columns(groups, [vectors])
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
    """From columns of texts to one column of their tokens, and the teacher's tokens of the first."""

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
