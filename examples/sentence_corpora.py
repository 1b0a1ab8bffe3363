"""What sentence encoders learn from and are judged by: the docstrings that every Python has, or the user's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from datasets import Dataset
from sentence_flags import read_sts, sts
from sentence_students import SentenceModel

from retort.collators import docstring_corpus, passages, read_groups, read_texts
from retort.evaluation import retrieval_scores


class Corpus(Protocol):
    """Text to learn from, and a measure.

    Attributes:
        introduction: what it is, for the terminal.
        sample: unseen texts, for speed and for agreement with the teacher.
        measured: on what `quality` is measured.
        data: of the model card: what was learnt from, and how many rows.
        dev: pairs with scores by which stages are compared, or None.
        texts: a column `text` to learn from.
        groups: groups for a `ContrastiveTrainer`.
    """

    introduction: str
    sample: Sequence[str]
    measured: str
    data: Mapping[str, int]
    dev: Dataset | None
    texts: Dataset
    groups: Dataset

    def quality(self, model: SentenceModel) -> dict[str, float]:
        """Scores on what was not learnt from, the most important first."""


@dataclass(frozen=True)
class Docstrings:
    """The docstrings of Python's standard library."""

    dev = None

    @cached_property
    def _corpus(self):
        return docstring_corpus()

    @property
    def introduction(self) -> str:
        return (
            f"Text: {len(self._corpus.sentences['train']):,} sentences from the docstrings of Python's standard "
            f"library; {len(self._corpus.pairs['test'])} of its docstrings, from other modules, are for the test."
        )

    @cached_property
    def texts(self) -> Dataset:
        return passages(self._corpus.sentences["train"], source="module")

    @property
    def groups(self) -> Dataset:
        raise SystemExit("Docstrings hold no groups: a stage with data: groups needs data.group_files.")

    @property
    def data(self) -> Mapping[str, int]:
        return {"passages from the docstrings of Python's standard library": len(self.texts)}

    @property
    def sample(self) -> Sequence[str]:
        return self._corpus.sentences["test"]["text"]

    @property
    def measured(self) -> str:
        return (
            "Retrieval: a docstring's details by its summary, among the "
            f"{len(self._corpus.pairs['test'])} of modules of Python's standard library that were not trained on. "
            f"Agreement: Spearman correlation of the cosines of {min(len(self.sample), 1000):,} sentences of those "
            "modules."
        )

    def quality(self, model: SentenceModel) -> dict[str, float]:
        pairs = self._corpus.pairs["test"]
        scores = retrieval_scores(model.embed(pairs["summary"]), model.embed(pairs["details"]))
        return {"MRR@10": scores["mrr@10"], "recall@1": scores["recall@1"], "recall@10": scores["recall@10"]}


@dataclass(frozen=True)
class Files:
    """Files of the user's, judged by the likeness of pairs that people have scored.

    Attributes:
        sts_test: name -> table with sentence1, sentence2, score; the first is what a report compares by.
        train_files: texts, as `read_texts` takes them.
        exclude_files: texts to leave out; those of `sts_dev` and `sts_test` are left out in any case.
        group_files: groups, as `read_groups` takes them.
        sts_dev: a table by which stages are compared.
    """

    sts_test: Mapping[str, str]
    train_files: Sequence[str] = ()
    exclude_files: Sequence[str] = ()
    group_files: Sequence[str] = ()
    sts_dev: str | None = None

    @cached_property
    def dev(self) -> Dataset | None:
        return self.sts_dev and read_sts(self.sts_dev)

    @cached_property
    def _tests(self) -> Mapping[str, Dataset]:
        return {name: read_sts(file) for name, file in self.sts_test.items()}

    @property
    def introduction(self) -> str:
        return f"Text: {_names((*self.train_files, *self.group_files))}; judged by {', '.join(self.sts_test)}."

    @cached_property
    def texts(self) -> Dataset:
        judged = [*self._tests.values(), *([self.dev] if self.dev else [])]
        excluded = [text for pairs in judged for side in ("sentence1", "sentence2") for text in pairs[side]]
        if self.exclude_files:
            excluded += read_texts(self.exclude_files)["text"]
        return read_texts(self.train_files, exclude=excluded)

    @cached_property
    def groups(self) -> Dataset:
        return read_groups(self.group_files)

    @property
    def data(self) -> Mapping[str, int]:
        read = {}
        if self.train_files:
            read[_names(self.train_files)] = len(self.texts)
        if self.group_files:
            read[_names(self.group_files)] = len(self.groups)
        return read

    @property
    def sample(self) -> Sequence[str]:
        return next(iter(self._tests.values()))["sentence1"]

    @property
    def measured(self) -> str:
        return "Spearman correlation of cosines with people's scores."

    def quality(self, model: SentenceModel) -> dict[str, float]:
        return {name: sts(model, pairs) for name, pairs in self._tests.items()}


def _names(files: Sequence[str]) -> str:
    return ", ".join(Path(file).name for file in files)
