"""Base class for the tokenization of datasets: cached processing of the rows, and statistics about them."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, Features, IterableDataset, IterableDatasetDict, Value

from ..fingerprints import fingerprint
from .encoder import Encoder


def check_columns(dataset: Any, columns: Iterable[str | None]) -> None:
    """Raise a ValueError if `dataset` is not a dataset or lacks one of the columns."""
    if not isinstance(dataset, Dataset):
        raise ValueError(f"Expected a datasets.Dataset, but got a {type(dataset).__name__}. {_way_out(dataset)}")
    for column in columns:
        if column and column not in dataset.column_names:
            raise ValueError(f"The dataset has no column {column!r}, only {', '.join(dataset.column_names)}.")


def _way_out(given: Any) -> str:
    """What to pass in place of something that is no dataset."""
    if isinstance(given, IterableDatasetDict | DatasetDict | dict):
        return "Pass one split of it, such as dataset['train']."
    if isinstance(given, IterableDataset):
        return (
            "Load it without streaming=True. Or tokenize the stream as it is read, and pass it to the trainer with "
            "max_steps=...: stream.map(lambda row: {**tokenizer(row['text'], truncation=True, max_length=128), "
            "'labels': row['label']}), where 'labels' are only needed for label_weight. That is for texts with one "
            "tokenizer."
        )
    return "Make one, such as datasets.Dataset.from_dict({'text': texts})."


@dataclass(frozen=True)
class Tokenization(ABC):
    """The function for `datasets.map`, which converts columns of a batch of rows to columns of tokens.

    Attributes:
        student: encodes for the student.
        teacher: encodes for the teacher; None if it uses the student's tokens or there is no teacher.
        notes: names of integer columns with statistics about each row, to be summed. A counter would miss rows from the
            cache or from other processes.
    """

    student: Encoder
    teacher: Encoder | None

    notes: ClassVar[tuple[str, ...]]

    @property
    @abstractmethod
    def columns(self) -> dict[str, Any]:
        """The columns of the result, without the notes, and their types."""

    @abstractmethod
    def tokenize(self, columns: dict[str, list], indices: list[int]) -> list[dict[str, Any]]:
        """The rows of a batch, with all columns and notes. Other values are dropped."""

    def __call__(self, columns: dict[str, list], indices: list[int]) -> dict[str, list]:
        rows = self.tokenize(columns, indices)
        return {name: [row[name] for row in rows] for name in (*self.columns, *self.notes)}

    def run(self, dataset: Dataset, inputs: Iterable[str | None], num_proc: int | None = None) -> Dataset:
        """Tokenize the columns `inputs` of a dataset. The result includes the notes."""
        # By default datasets would hash the tokenizer objects, whose state changes with every call.
        arguments = [
            value.description if isinstance(value, Encoder) else str(value) for value in (*vars(self).values(), inputs)
        ]
        rows = dataset.with_format(None).select_columns(list(dict.fromkeys(filter(None, inputs))))
        return rows.map(
            self,
            batched=True,
            with_indices=True,
            remove_columns=rows.column_names,
            features=Features(self.columns | dict.fromkeys(self.notes, Value("int32"))),
            num_proc=num_proc,
            new_fingerprint=fingerprint(dataset, type(self).__name__, arguments),
            desc="Tokenizing",
        )

    def totals(self, rows: Dataset) -> list[int]:
        """The sums of the notes over all rows."""
        notes = rows.select_columns(list(self.notes)).with_format("arrow")[:]
        return [pc.sum(notes[name]).as_py() for name in self.notes]
