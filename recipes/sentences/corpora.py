"""What sentence encoders learn from and are judged by: the docstrings that every Python has, or the user's files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean
from types import MappingProxyType

from datasets import Dataset

from ...data.readers import (
    both_sides,
    distinct,
    docstring_corpus,
    passages,
    read_dataset,
    read_groups,
    read_parallel,
    read_sts,
    read_texts,
)
from ...evaluation.sentences import bitext_accuracy, retrieval_scores, sts_of_each
from ...modeling.encoding import SentenceEncoder


@dataclass(frozen=True)
class Docstrings:
    """The docstrings of Python's standard library. For attributes and `quality`, see `Files`."""

    has_tests, dev = True, MappingProxyType({})

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
    def translations(self) -> Dataset:
        raise SystemExit("Docstrings hold no translations: a stage with data: translations needs data.parallel_files.")

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

    def quality(self, model: SentenceEncoder) -> dict[str, float]:
        pairs = self._corpus.pairs["test"]
        scores = retrieval_scores(model.encode(pairs["summary"]), model.encode(pairs["details"]))
        return {"MRR@10": scores["mrr@10"], "recall@1": scores["recall@1"], "recall@10": scores["recall@10"]}


@dataclass(frozen=True)
class Files:
    """Files of the user's, judged by the likeness of pairs that people have scored.

    Attributes:
        sts_test: name -> table with sentence1, sentence2, score; or two that translate each other (see `read_sts`).
            A report compares by the first, or of several by their mean.
        train_files: texts, as `read_texts` takes them.
        exclude_files: texts to leave out; those that models are judged by are left out in any case.
        group_files: groups, as `read_groups` takes them.
        parallel_files: translations, as `read_parallel` takes them; the texts of both sides are learnt from, too.
        max_rows: of each parallel file at most.
        alpha: how often parallel files are seen (see `read_parallel`).
        sts_dev: tables by whose mean stages are compared.
        bitext: name -> TSV of a sentence and its translation, which are to find each other.
    """

    sts_test: Mapping[str, str]
    train_files: Sequence[str] = ()
    exclude_files: Sequence[str] = ()
    group_files: Sequence[str] = ()
    parallel_files: Sequence[str] = ()
    max_rows: int | None = None
    alpha: float = 1.0
    sts_dev: str | Mapping[str, str] | None = None
    bitext: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def dev(self) -> Mapping[str, Dataset]:
        """Pairs with scores by which stages are compared, by name; perhaps none."""
        named = self.sts_dev if isinstance(self.sts_dev, dict) else {"sts": self.sts_dev} if self.sts_dev else {}
        return {name: read_sts(file) for name, file in named.items()}

    @cached_property
    def _tests(self) -> Mapping[str, Dataset]:
        return {name: read_sts(file) for name, file in self.sts_test.items()}

    @cached_property
    def _bitext(self) -> Mapping[str, Dataset]:
        return {name: read_dataset(file, columns=["source", "target"]) for name, file in self.bitext.items()}

    @property
    def introduction(self) -> str:
        """What it is, for the terminal."""
        files = (*self.train_files, *self.parallel_files, *self.group_files)
        return f"Text: {_names(files)}; judged by {', '.join((*self.sts_test, *self._bitext)) or 'nothing'}."

    @property
    def has_tests(self) -> bool:
        """Whether there is anything to judge by at the end."""
        return bool(self.sts_test)

    @cached_property
    def _left_out(self) -> list[str]:
        read = [(pairs, ("sentence1", "sentence2")) for pairs in (*self._tests.values(), *self.dev.values())]
        read += [(pairs, ("source", "target")) for pairs in self._bitext.values()]
        judged_by = [text for pairs, sides in read for side in sides for text in pairs[side]]
        return judged_by + (read_texts(self.exclude_files)["text"][:] if self.exclude_files else [])

    @cached_property
    def texts(self) -> Dataset:
        """A column `text` to learn from."""
        if not self.parallel_files:
            return read_texts(self.train_files, exclude=self._left_out)
        translated = both_sides(self.translations)
        if not self.train_files:
            return translated
        own = read_texts(self.train_files, exclude=self._left_out)
        return distinct([own, translated], named=_names((*self.train_files, *self.parallel_files)))

    @cached_property
    def groups(self) -> Dataset:
        """Groups for a `ContrastiveTrainer`."""
        return read_groups(self.group_files)

    @cached_property
    def translations(self) -> Dataset:
        """Sentences and their translations for an `MCLTrainer`."""
        return read_parallel(self.parallel_files, exclude=self._left_out, max_rows=self.max_rows, alpha=self.alpha)

    @property
    def data(self) -> Mapping[str, int]:
        """What was learnt from, and how many rows: for the model card."""
        read = {}
        if self.train_files:
            read[_names(self.train_files)] = len(self.texts)
        if self.parallel_files:
            read[_names(self.parallel_files)] = len(self.translations)
        if self.group_files:
            read[_names(self.group_files)] = len(self.groups)
        return read

    @property
    def sample(self) -> Sequence[str]:
        """Unseen texts, for speed and for agreement with the teacher."""
        return next(iter(self._tests.values()))["sentence1"]

    @property
    def measured(self) -> str:
        """On what `quality` is measured."""
        told = "Spearman correlation of cosines with people's scores."
        if self.bitext:
            told += " Bitext: how often a sentence's nearest neighbour is its translation; back, a translation's."
        return told

    def quality(self, model: SentenceEncoder) -> dict[str, float]:
        """Scores on what was not learnt from, the most important first."""
        scores = sts_of_each(model, self._tests)
        if len(scores) > 1:
            scores = {"mean STS": fmean(scores.values())} | scores
        for name, pairs in self._bitext.items():
            forth, back = bitext_accuracy(model.encode(pairs["source"]), model.encode(pairs["target"]))
            scores |= {f"bitext {name}": forth, f"bitext {name}, back": back}
        return scores


def _names(files: Sequence[str]) -> str:
    return ", ".join(Path(file).name for file in files)
