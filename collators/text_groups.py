"""Groups of texts that belong together: an anchor, its positive, and hard negatives."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import torch
from datasets import Dataset, Features, List, Value, concatenate_datasets
from transformers import PreTrainedTokenizerBase

from .collator import DistillationCollator
from .encoder import Encoder
from .readers import format_of, read_dataset
from .text_files import first_row

logger = logging.getLogger(__name__)

ROLES = ("anchor", "positive", "negative")
# First rows that are a header: SimCSE's, sentence-transformers', and what else such columns are called.
_NAMES = {*ROLES, "sent0", "sent1", "hard_neg", "query", "text", "text1", "text2", "sentence1", "sentence2"}


def read_groups(sources: Sequence[str | Path]) -> Dataset:
    """Read groups from TSV and CSV files, or texts that are each a group of their own.

    Args:
        sources: TSV (no quoting) or CSV files of two columns (anchor, positive) or three (and a hard negative), with a
            header row or without: it is one if it holds names that such columns usually have. Or `.txt` files, one
            text per line. All of one kind.

    Returns:
        Columns `anchor`, and as there are `positive` and `negative`. Rows with an empty text are left out and counted.

    Raises:
        ValueError: other numbers of columns, or files of different kinds; and what `read_dataset` raises.
    """
    parts = [_read(Path(source)) for source in sources]
    kinds = {tuple(part.column_names) for part in parts}
    if len(kinds) > 1:
        found = "; ".join(f"{s}: {', '.join(p.column_names)}" for s, p in zip(sources, parts, strict=True))
        raise ValueError(f"All files must hold the same columns, but there are {found}.")
    rows = concatenate_datasets(parts)
    kept = rows.filter(_is_whole, desc="Reading groups")
    if left_out := len(rows) - len(kept):
        logger.warning("%d of %d rows hold an empty text and were left out.", left_out, len(rows))
    if not len(kept):
        raise ValueError(f"No row of {', '.join(map(str, sources))} holds text in every column.")
    return kept


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
    key = json.dumps([groups._fingerprint, described, job.columns])
    made = groups.map(
        job,
        batched=True,
        remove_columns=groups.column_names,
        features=job.features,
        new_fingerprint=hashlib.sha256(key.encode()).hexdigest()[:32],
        desc="Tokenising",
    )
    if cut := pc.sum(made.data.column("cut")).as_py():
        logger.warning("%d of %d texts were cut at %d tokens.", cut, len(made) * len(job.columns), max_length)
    return made.remove_columns("cut")


@dataclass(frozen=True)
class GroupCollator:
    """Makes batches of groups: all texts of all groups.

    Args:
        collator: makes a batch of texts.

    Returns (when called with a list of rows):
        What `collator` does, and `groups`, `[rows, members]`: where each group's texts are in the batch. A group of a
        single text holds it twice: dropout makes two embeddings of it (Gao, Yao & Chen 2021, SimCSE, section 3). So
        does a row of `input_ids`, which has no `members`.

    Raises:
        ValueError: groups of different sizes.
    """

    collator: DistillationCollator

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        groups = [list(row["members"]) if "members" in row else [row["input_ids"]] for row in rows]
        groups = [members * 2 if len(members) == 1 else members for members in groups]
        if len({len(members) for members in groups}) > 1:
            raise ValueError(f"Groups of a batch must be of one size, but hold {[len(g) for g in groups]} texts.")
        batch = self.collator([{"input_ids": ids} for members in groups for ids in members])
        texts = len(groups) * len(groups[0])
        places = batch.pop("order").argsort() if "order" in batch else torch.arange(texts)
        return batch | {"groups": places.view(len(groups), -1)}


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


def _read(path: Path) -> Dataset:
    if format_of(path) not in (".tsv", ".csv"):
        return read_dataset(path).select_columns("text").rename_column("text", ROLES[0])
    first = first_row(path)
    if len(first) not in (2, 3):
        raise ValueError(
            f"{path} has {len(first)} columns, but a group is an anchor and its positive, or these and a hard negative."
        )
    columns = list(ROLES[: len(first)])
    if not {name.strip().lower() for name in first} <= _NAMES:
        return read_dataset(path, columns=columns)
    return read_dataset(path).rename_columns(dict(zip(first, columns, strict=True)))


def _is_whole(row: dict[str, str]) -> bool:
    return all(text and text.strip() for text in row.values())
