"""Training and evaluation data of sentence encoders: Python's docstrings, or the user's files."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from types import MappingProxyType

from datasets import Dataset
from torch import Tensor

from ...data.readers import (
    both_sides,
    distinct,
    docstring_corpus,
    passages,
    read_groups,
    read_pairs,
    read_parallel,
    read_sts,
    read_texts,
)
from ...evaluation.report import Quality, Rows, bootstrapped
from ...evaluation.sentences import bitext_hits, rank_correlation, scores_of_ranks, sts_pairs
from ...modeling.encoding import SentenceEncoder
from ..schema import SentenceEvaluation, SentenceFiles
from .retrieval import ranks_of_documents

logger = logging.getLogger(__name__)


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

    @cached_property
    def groups(self) -> Dataset:
        pairs = self._corpus.pairs["train"].select_columns(["summary", "details"])
        return pairs.rename_columns({"summary": "anchor", "details": "positive"})

    @cached_property
    def queries(self) -> Dataset:
        return self.groups.select_columns("anchor").rename_column("anchor", "text")

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

    @property
    def test_set(self) -> str:
        return f"{len(self._corpus.pairs['test'])} docstrings of unseen modules"

    @property
    def tests(self) -> Mapping[str, Dataset]:
        return {"docstrings": self._corpus.pairs["test"]}

    def quality(self, model: SentenceEncoder, document_encoder: SentenceEncoder | None = None) -> Quality:
        pairs = self._corpus.pairs["test"]
        ranks = ranks_of_documents(model, pairs["summary"], pairs["details"], document_encoder)
        return bootstrapped(lambda rows: _retrieval_scores(ranks, rows))


@dataclass(frozen=True)
class Files:
    """The user's files, with evaluation on STS and bitext retrieval.

    Attributes:
        files: training files. Evaluation texts are left out of them.
        measures: evaluation files.
    """

    files: SentenceFiles
    measures: SentenceEvaluation

    @cached_property
    def dev(self) -> Mapping[str, Dataset]:
        """Name -> development set (scored pairs), by which stages are compared."""
        named = self.measures.sts_dev or {}
        named = {"sts": named} if isinstance(named, str) else named
        return {name: read_sts(file) for name, file in named.items()}

    @cached_property
    def _tests(self) -> Mapping[str, Dataset]:
        return {name: read_sts(file) for name, file in self.measures.sts_test.items()}

    @cached_property
    def _retrieval(self) -> Mapping[str, Dataset]:
        return {name: read_pairs(file) for name, file in self.measures.retrieval.items()}

    @cached_property
    def _bitext(self) -> Mapping[str, Dataset]:
        return {name: read_pairs(file) for name, file in self.measures.bitext.items()}

    @property
    def introduction(self) -> str:
        """Description of the data, for the terminal."""
        own = self.files
        files = (*own.train_files, *own.query_files, *own.parallel_files, *own.group_files)
        if not self.tests:
            return f"Text: {_names(files)}. Without test sets in `evaluation`, there is no report."
        return f"Text: {_names(files)}; judged by {', '.join(self.tests)}."

    @property
    def has_tests(self) -> bool:
        """Whether there are test sets."""
        return bool(self.measures.sts_test or self.measures.retrieval)

    @cached_property
    def _left_out(self) -> list[str]:
        read = [(pairs, ("sentence1", "sentence2")) for pairs in (*self._tests.values(), *self.dev.values())]
        read += [(pairs, ("source", "target")) for pairs in (*self._bitext.values(), *self._retrieval.values())]
        judged_by = [text for pairs, sides in read for side in sides for text in pairs[side]]
        return judged_by + (read_texts(self.files.exclude_files)["text"][:] if self.files.exclude_files else [])

    @cached_property
    def texts(self) -> Dataset:
        """Training texts, a column `text`."""
        if not self.files.parallel_files:
            return read_texts(self.files.train_files, exclude=self._left_out)
        translated = both_sides(self.translations)
        if not self.files.train_files:
            return translated
        own = read_texts(self.files.train_files, exclude=self._left_out)
        return distinct([own, translated], named=_names((*self.files.train_files, *self.files.parallel_files)))

    @cached_property
    def queries(self) -> Dataset:
        """Training queries, a column `text`."""
        return read_texts(self.files.query_files, exclude=self._left_out)

    @cached_property
    def groups(self) -> Dataset:
        """Groups for a `ContrastiveTrainer`, without groups that contain an evaluation text."""
        return read_groups(self.files.group_files, exclude=self._left_out)

    @cached_property
    def translations(self) -> Dataset:
        """Sentences and their translations for an `MCLTrainer`."""
        return read_parallel(
            self.files.parallel_files, exclude=self._left_out, max_rows=self.files.max_rows, alpha=self.files.alpha
        )

    @property
    def data(self) -> Mapping[str, int]:
        """Names of the training data -> number of rows, for the model card."""
        read = {}
        if self.files.train_files:
            read[_names(self.files.train_files)] = len(self.texts)
        if self.files.query_files:
            read[_names(self.files.query_files)] = len(self.queries)
        if self.files.parallel_files:
            read[_names(self.files.parallel_files)] = len(self.translations)
        if self.files.group_files:
            read[_names(self.files.group_files)] = len(self.groups)
        return read

    @property
    def sample(self) -> Sequence[str]:
        """Unseen texts, for speed and for agreement with the teacher."""
        scored = next(iter(self._tests.values()), None)
        return scored["sentence1"] if scored else next(iter(self._retrieval.values()))["source"]

    @property
    def measured(self) -> str:
        """Description of the evaluation in `quality`."""
        measured = "Spearman correlation of cosines with human scores." if self._tests else ""
        if self.measures.retrieval:
            measured += f"{' ' * bool(measured)}Retrieval: of each query's document among all documents."
        if self.measures.bitext:
            measured += " Bitext: share of sentences whose nearest neighbour is their translation; back: the reverse."
        return measured

    @property
    def test_set(self) -> str:
        """Short description of the data of the first score."""
        of_first = self._tests or dict([next(iter(self._retrieval.items()))])
        pairs = f"{sum(map(len, of_first.values())):,} pairs"
        return pairs if len(of_first) == 1 else f"{len(of_first)} test sets, {pairs}"

    @property
    def tests(self) -> Mapping[str, Dataset]:
        """Name -> data of `quality`."""
        others = {"retrieval": self._retrieval, "bitext": self._bitext}
        named = {f"{kind} {name}": pairs for kind, sets in others.items() for name, pairs in sets.items()}
        return {**self._tests, **named}

    def quality(self, model: SentenceEncoder, document_encoder: SentenceEncoder | None = None) -> Quality:
        """Scores on the test sets, the most important first.

        Args:
            model: the model.
            document_encoder: encodes the documents of retrieval in its place; None for `model` itself.
        """
        of_pairs = sts_pairs(model.encode, self._tests) if self._tests else {}
        ranks = {
            name: ranks_of_documents(model, pairs["source"], pairs["target"], document_encoder)
            for name, pairs in self._retrieval.items()
        }
        hits = {
            name: bitext_hits(*map(model.encode, sides), sides)
            for name, rows in self._bitext.items()
            for sides in [(rows["source"][:], rows["target"][:])]
        }

        def scores(rows: Rows) -> dict[str, float]:
            found = {}
            for name, (cosines, gold) in of_pairs.items():
                drawn = rows(len(gold))
                found[f"{name} Spearman"] = rank_correlation(cosines[drawn], gold[drawn])
            if len(found) > 1:
                found = {"mean STS Spearman": fmean(found.values())} | found
            for name, of_set in ranks.items():
                found |= {f"{name} {score}": value for score, value in _retrieval_scores(of_set, rows).items()}
            for name, (forth, back) in hits.items():
                drawn = rows(len(forth))
                found[f"bitext {name}"] = float(forth[drawn].double().mean())
                found[f"bitext {name}, back"] = float(back[drawn].double().mean())
            return found

        return bootstrapped(scores)


def _retrieval_scores(ranks: Mapping[str, Tensor], rows: Rows) -> dict[str, float]:
    """Scores of `ranks_of_documents`, on a sample of the queries."""
    found, drawn = {}, rows(len(next(iter(ranks.values()))))
    for suffix, each in ranks.items():
        scores = scores_of_ranks(each[drawn])
        found |= {f"{printed}{suffix}": scores[printed.lower()] for printed in ("MRR@10", "recall@1", "recall@10")}
    return found


def _names(files: Sequence[str]) -> str:
    return ", ".join(Path(file).name for file in files)
