"""Training and evaluation data of sentence encoders: Python's docstrings, or the user's files."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any

from datasets import Dataset

from ...data.readers import (
    both_sides,
    distinct,
    docstring_corpus,
    folded,
    passages,
    read_groups,
    read_pairs,
    read_parallel,
    read_sts,
    read_texts,
)
from ...evaluation.report import Quality, Rows, bootstrapped
from ...evaluation.sentences import bitext_hits, own_document_ranks, rank_correlation, scores_of_ranks, sts_pairs
from ...modeling.encoding import SentenceEncoder
from ..schema import SentenceEvaluation, SentenceFiles

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

    @property
    def translations(self) -> Dataset:
        raise SystemExit("Docstrings have no translations: a stage with data: translations needs data.parallel_files.")

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

    def quality(self, model: SentenceEncoder) -> Quality:
        pairs = self._corpus.pairs["test"]
        ranks = own_document_ranks(model.encode(pairs["summary"]), model.encode(pairs["details"]))

        def scores(rows: Rows) -> dict[str, float]:
            found = scores_of_ranks(ranks[rows(len(ranks))])
            return {"MRR@10": found["mrr@10"], "recall@1": found["recall@1"], "recall@10": found["recall@10"]}

        return bootstrapped(scores)


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
    def _bitext(self) -> Mapping[str, Dataset]:
        return {name: read_pairs(file) for name, file in self.measures.bitext.items()}

    @property
    def introduction(self) -> str:
        """Description of the data, for the terminal."""
        files = (*self.files.train_files, *self.files.parallel_files, *self.files.group_files)
        return f"Text: {_names(files)}; judged by {', '.join((*self.measures.sts_test, *self._bitext)) or 'nothing'}."

    @property
    def has_tests(self) -> bool:
        """Whether there are test sets."""
        return bool(self.measures.sts_test)

    @cached_property
    def _left_out(self) -> list[str]:
        read = [(pairs, ("sentence1", "sentence2")) for pairs in (*self._tests.values(), *self.dev.values())]
        read += [(pairs, ("source", "target")) for pairs in self._bitext.values()]
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
    def groups(self) -> Dataset:
        """Groups for a `ContrastiveTrainer`, without groups that contain an evaluation text.

        Raises:
            ValueError: no group is left.
        """
        groups = read_groups(self.files.group_files)
        excluded = {folded(text) for text in self._left_out}
        if not excluded:
            return groups
        kept = groups.filter(lambda row: excluded.isdisjoint(map(folded, _texts_of(row))), desc="Evaluation texts")
        if len(kept) < len(groups):
            left_out = len(groups) - len(kept)
            logger.warning("%d of %d groups contain evaluation texts and were left out.", left_out, len(groups))
        if not len(kept):
            raise ValueError(f"All groups of {_names(self.files.group_files)} contain evaluation texts.")
        return kept

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
        if self.files.parallel_files:
            read[_names(self.files.parallel_files)] = len(self.translations)
        if self.files.group_files:
            read[_names(self.files.group_files)] = len(self.groups)
        return read

    @property
    def sample(self) -> Sequence[str]:
        """Unseen texts, for speed and for agreement with the teacher."""
        return next(iter(self._tests.values()))["sentence1"]

    @property
    def measured(self) -> str:
        """Description of the evaluation in `quality`."""
        measured = "Spearman correlation of cosines with human scores."
        if self.measures.bitext:
            measured += " Bitext: share of sentences whose nearest neighbour is their translation; back: the reverse."
        return measured

    @property
    def test_set(self) -> str:
        """Short description of the data of the first score."""
        pairs = f"{sum(map(len, self._tests.values())):,} pairs"
        return pairs if len(self._tests) == 1 else f"{len(self._tests)} test sets, {pairs}"

    @property
    def tests(self) -> Mapping[str, Dataset]:
        """Name -> data of `quality`."""
        return {**self._tests, **{f"bitext {name}": pairs for name, pairs in self._bitext.items()}}

    def quality(self, model: SentenceEncoder) -> Quality:
        """Scores on the test sets, the most important first."""
        of_pairs = sts_pairs(model, self._tests)
        hits = {
            name: bitext_hits(model.encode(pairs["source"]), model.encode(pairs["target"]))
            for name, pairs in self._bitext.items()
        }

        def scores(rows: Rows) -> dict[str, float]:
            found = {}
            for name, (cosines, gold) in of_pairs.items():
                drawn = rows(len(gold))
                found[f"{name} Spearman"] = rank_correlation(cosines[drawn], gold[drawn])
            if len(found) > 1:
                found = {"mean STS Spearman": fmean(found.values())} | found
            for name, (forth, back) in hits.items():
                drawn = rows(len(forth))
                found[f"bitext {name}"] = float(forth[drawn].double().mean())
                found[f"bitext {name}, back"] = float(back[drawn].double().mean())
            return found

        return bootstrapped(scores)


def _names(files: Sequence[str]) -> str:
    return ", ".join(Path(file).name for file in files)


def _texts_of(group: Mapping[str, Any]) -> Iterator[str]:
    """The texts of a group, those in lists included."""
    for value in group.values():
        yield from (text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str))
