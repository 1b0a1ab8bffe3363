"""Training and evaluation data of a recipe: a pair of types for each kind of student."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from .entries import files_of, unlabelled
from .models import SHRINK_SETTINGS
from .values import Count, Entries, NonNegative, Share

_OF_TASKS = frozenset({"tokenizer", "freeze_embeddings", "projector"})


@dataclass(frozen=True)
class SentenceFiles:
    """Text for sentence embeddings: files, or the docstrings of Python's standard library.

    Attributes:
        corpus: `docstrings` of Python's standard library, instead of files. A group is a docstring's summary and its
            details; summaries are also the queries. Models are evaluated by retrieval of a docstring's details with its
            summary.
        train_files: texts: `.txt` (one per line), `.tsv`, `.csv`, `.jsonl`, `.parquet` (also `.gz`), folders or Hub
            datasets. Text columns are named after a colon: `pairs.tsv:question,answer`.
        exclude_files: texts to leave out of training. Evaluation texts are always left out.
        query_files: for stages with `data: queries`, in the same formats. A teacher with a prompt for queries needs
            `teacher_prompt_name: query` in these stages.
        group_files: for stages with `data: groups`. Each row is an anchor, its positive and optional hard negatives, or
            a query with lists of its documents and their scores (as written by `retort cache`).
        parallel_files: for stages with `data: translations`. Each row is a sentence and its translation. The texts of
            both languages are also training texts. Two files with aligned rows: `en.tsv:text+de.tsv:text`.
        max_rows: maximum number of rows of each parallel file.
        alpha: exponent for sampling parallel files in proportion to size ** alpha; 0 samples all files equally.
        max_length: texts are truncated to this many tokens.
    """

    corpus: Literal["docstrings"] | None = None
    train_files: Sequence[str] = ()
    exclude_files: Sequence[str] = ()
    query_files: Sequence[str] = ()
    group_files: Sequence[str] = ()
    parallel_files: Sequence[str] = ()
    max_rows: Count | None = None
    alpha: Share = 1.0
    max_length: Count = 128

    kind: ClassVar = "sentences"
    student_ways: ClassVar = (
        SHRINK_SETTINGS | {"tokenizer", "queries_only"},
        SHRINK_SETTINGS | {"model", "queries_only"},
        frozenset({"static", "tokenizer"}),
        frozenset({"static", "model"}),
    )
    rows_needed: ClassVar = "queries needs data.query_files, groups data.group_files, translations data.parallel_files"

    def __post_init__(self):
        if self.corpus:
            own = ("train_files", "query_files", "group_files", "parallel_files", "exclude_files")
            _refuse_beside_corpus(self, own)
        if not self.parallel_files and (self.max_rows or self.alpha != 1):
            raise ValueError("max_rows and alpha are for parallel_files, which are not given. Leave them out.")
        if not self.rows:
            raise ValueError("there is no training data: set train_files, query_files, group_files or parallel_files.")

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows that stages may name."""
        sources = {
            "train": self.corpus or self.train_files or self.parallel_files,
            "queries": self.corpus or self.query_files,
            "groups": self.corpus or self.group_files,
            "translations": self.parallel_files,
        }
        return tuple(name for name, source in sources.items() if source)


@dataclass(frozen=True)
class SentenceEvaluation:
    """Evaluation of sentence embeddings that are trained on files. Without test sets there is no report.

    Attributes:
        sts_test: name -> table with the columns sentence1, sentence2 and score, or two aligned tables
            (`en.tsv+de.tsv`). Used once, at the end. Reports compare models by this score, or the mean of several.
        sts_dev: the same for development. Stages are compared by the mean score. A single table may be given without a
            name.
        retrieval: name -> table of queries and documents, for retrieval of each query's document among all documents.
            Columns are named after a colon: `pairs.tsv:query,document`.
        bitext: name -> table of sentences and translations for bitext retrieval.
    """

    sts_test: Mapping[str, str] = field(default_factory=dict)
    sts_dev: str | Mapping[str, str] | None = None
    retrieval: Mapping[str, str] = field(default_factory=dict)
    bitext: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        if self.bitext and not (self.sts_test or self.retrieval):
            raise ValueError("bitext alone gives no report: add sts_test or retrieval, by which models are compared.")
        _refuse_shared(self, "sts_dev", "sts_test")


@dataclass(frozen=True)
class TaskFiles:
    """Rows with labels: files, or a small dataset made from Python's standard library.

    Attributes:
        task: `tagging` (a label for each word) or `classification` (a label for a text or a pair of texts).
        corpus: `docstrings` of Python's standard library, instead of files. Tagging: words that name a parameter, an
            exception or a constant. Classification: the part of the library that a sentence is from.
        folders: folders with `train`, `dev` and `test` files, and optionally `labels.tsv` and `transfer.txt`; or Hub
            datasets. A language prefix (`da=folder`) gives scores by language.
        train: training files, instead of those of the folders.
        dev: development files, instead of those of the folders.
        test: test files, instead of those of the folders.
        transfer: unlabelled text for distillation (transfer set); the training texts by default.
        labels: the labels in the order of their ids, as a file or a list.
        pairs: whether rows have two texts and a label.
        columns: columns of texts and labels, by name or by number from 0.
        max_length: maximum number of tokens of a model input. Longer texts are truncated for classification, and split
            into overlapping windows for tagging.
        stride: for tagging, number of tokens that neighbouring windows share, as in transformers' pipelines; by default
            a quarter of the text of a window.
    """

    task: Literal["tagging", "classification"]
    corpus: Literal["docstrings"] | None = None
    folders: Entries = ()
    train: Entries = ()
    dev: Entries = ()
    test: Entries = ()
    transfer: Entries = ()
    labels: str | Sequence[str] | None = None
    pairs: bool = False
    columns: Sequence[str] | Sequence[int] | None = None
    max_length: Count = 128
    stride: NonNegative | None = None

    kind: ClassVar = "tasks"
    student_ways: ClassVar = (
        SHRINK_SETTINGS | _OF_TASKS,
        {"model", "embedding_init"} | _OF_TASKS,
        {"bilstm"} | _OF_TASKS,
    )

    def __post_init__(self):
        own = ("folders", "train", "dev", "test", "transfer", "labels", "pairs", "columns")
        if self.corpus:
            _refuse_beside_corpus(self, own)
        elif not (self.folders or self.train):
            raise ValueError("there is no training data: set folders or train.")
        if self.pairs and self.task == "tagging":
            raise ValueError("pairs are for classification; tagging has one text per row.")
        if self.stride is not None and self.task == "classification":
            raise ValueError("stride is for tagging; texts are truncated to max_length for classification.")
        _refuse_shared(self, "dev", "test")

    rows: ClassVar = ("train", "transfer", "train+transfer")
    rows_needed: ClassVar = "transfer is data.transfer, by default the training texts without labels"


@dataclass(frozen=True)
class TaskEvaluation:
    """Evaluation of taggers and classifiers.

    Attributes:
        metric: for classification: the name of a GLUE task, for its metric, or the folder of an `evaluate` module.
        onnx: also export to ONNX, in float32 and int8, and evaluate these models.
    """

    metric: str | None = None
    onnx: bool = False


@dataclass(frozen=True)
class MaskedFiles:
    """Text for masked language models.

    Attributes:
        task: `masked_lm`.
        corpus: `docstrings` of Python's standard library, instead of files; a part of them is the test set.
        train_files: texts, in the same formats as for sentence embeddings.
        max_length: maximum number of tokens of a row; longer texts are split into several rows.
    """

    task: Literal["masked_lm"]
    corpus: Literal["docstrings"] | None = None
    train_files: Sequence[str] = ()
    max_length: Count = 128

    kind: ClassVar = "masked language models"
    student_ways: ClassVar = (SHRINK_SETTINGS | {"tokenizer", "weigh_pieces"},)
    rows: ClassVar = ("train",)
    rows_needed: ClassVar = "train is data.train_files"

    def __post_init__(self):
        if self.corpus:
            _refuse_beside_corpus(self, ("train_files",))
        elif not self.train_files:
            raise ValueError("there is no training data: set train_files.")


@dataclass(frozen=True)
class MaskedEvaluation:
    """Evaluation of masked language models. These texts are never trained on.

    Attributes:
        dev_files: texts for the evaluation loss, by which a stage may select its best checkpoint.
        test_files: texts for the final evaluation on masked words; without them there is no report.
    """

    dev_files: Sequence[str] = ()
    test_files: Sequence[str] = ()

    def __post_init__(self):
        _refuse_shared(self, "dev_files", "test_files")


def _refuse_beside_corpus(data: SentenceFiles | TaskFiles | MaskedFiles, names: Sequence[str]) -> None:
    if given := [name for name in names if getattr(data, name)]:
        raise ValueError(f"corpus: {data.corpus} replaces all files: leave out {', '.join(given)}, or corpus.")


def _refuse_shared(settings: Any, dev: str, test: str) -> None:
    """Refuse a file that is both development and test data, since the test set would choose the best stage."""
    values = [getattr(settings, name) or () for name in (dev, test)]
    lists = [[v] if isinstance(v, str) else v.values() if isinstance(v, Mapping) else v for v in values]
    named = [{path: name for entry in entries for path, name in _paths(entry).items()} for entries in lists]
    if shared := sorted(named[0].keys() & named[1]):
        raise ValueError(
            f"{named[0][shared[0]]} is in {dev} and in {test}, but a test set must not choose the best stage. Leave it "
            "out of one of the two."
        )


def _paths(entry: str) -> dict[str, str]:
    """The real paths of an entry's files. A folder or dataset is compared as a whole, with its split."""
    names = {os.path.realpath(os.path.expanduser(name)): name for name in files_of(entry)}
    files = {path: name for path, name in names.items() if os.path.isfile(path)}
    return files or {os.path.realpath(os.path.expanduser(unlabelled(entry))): entry}
