"""What a student learns from, and what it is judged by: a pair of types for each kind of student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from .models import SHRINK_SETTINGS
from .values import Count, Entries, NonNegative, Share

_OF_TASKS = frozenset({"tokenizer", "freeze_embeddings", "projector"})


@dataclass(frozen=True)
class SentenceFiles:
    """Text for sentence embeddings: the docstrings that every Python has, or files.

    Attributes:
        corpus: `docstrings`, those of Python's standard library; models are then judged by how well they find a
            docstring's details by its summary.
        train_files: texts: `.txt` (one per line), `.tsv`, `.csv`, `.jsonl`, `.parquet` (also `.gz`), folders or
            datasets of the Hub; with the columns that hold text behind a colon: `pairs.tsv:question,answer`.
        exclude_files: texts to leave out; those that models are judged by are left out in any case.
        group_files: an anchor, its positive and perhaps hard negatives in each row, or a query with lists of its
            documents and their scores (`retort cache` writes them), for stages with `data: groups`.
        parallel_files: a sentence and its translation in each row, for stages with `data: translations`; the texts of
            both sides are learnt from, too. Two files that translate each other: `en.tsv:text+de.tsv:text`.
        max_rows: of each parallel file at most.
        alpha: how often parallel files are seen: in proportion to their size to this power; 0: all alike.
        max_length: tokens to which texts are cut.
    """

    corpus: Literal["docstrings"] | None = None
    train_files: Sequence[str] = ()
    exclude_files: Sequence[str] = ()
    group_files: Sequence[str] = ()
    parallel_files: Sequence[str] = ()
    max_rows: Count | None = None
    alpha: Share = 1.0
    max_length: Count = 128

    kind: ClassVar = "sentences"
    student_ways: ClassVar = (SHRINK_SETTINGS | {"tokenizer"}, SHRINK_SETTINGS | {"model"})
    rows_needed: ClassVar = "groups needs data.group_files, translations data.parallel_files"

    def __post_init__(self):
        names = ("train_files", "group_files", "parallel_files", "exclude_files")
        files = [name for name in names if getattr(self, name)]
        if self.corpus and files:
            raise ValueError(f"corpus: {self.corpus} stands for all data; leave out {', '.join(files)}, or corpus.")
        if not self.rows:
            raise ValueError("there is nothing to learn from: name train_files, group_files or parallel_files.")

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows that stages may name."""
        sources = {
            "train": self.corpus or self.train_files or self.parallel_files,
            "groups": self.group_files,
            "translations": self.parallel_files,
        }
        return tuple(name for name, source in sources.items() if source)


@dataclass(frozen=True)
class SentenceEvaluation:
    """What sentence embeddings from files are judged by. Without `sts_test` there is no report.

    Attributes:
        sts_test: name -> table of sentence1, sentence2, score, or two that translate each other
            (`en.tsv+de.tsv`), scored once, at the end. Reports compare by the first, or of several by their mean.
        sts_dev: the same, by whose mean stages are compared; a text alone is one table, called `sts`.
        bitext: name -> table of sentences and translations, which are to find each other.
    """

    sts_test: Mapping[str, str] = field(default_factory=dict)
    sts_dev: str | Mapping[str, str] | None = None
    bitext: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskFiles:
    """Rows with labels.

    Attributes:
        task: `tagging` (a label for each word) or `classification` (a label for a text or a pair of texts).
        folders: folders with `train`, `dev` and `test` files, and perhaps `labels.tsv` and `transfer.txt`, or datasets
            of the Hub; each may begin with its language (`da=folder`), for scores by language.
        train: files in place of the folders' own.
        dev: likewise.
        test: likewise.
        transfer: text without labels to distil on; the training texts by default.
        labels: a file, or a list, in the order of their ids.
        pairs: rows hold two texts and a label.
        columns: where texts and labels are, by name or by number from 0.
        max_length: tokens that a model reads at once. Longer texts to classify are cut; longer rows to tag make several
            windows, which overlap.
        stride: of tagging: tokens that neighbouring windows share, as transformers' pipelines count them; by default a
            quarter of the text of a window.
    """

    task: Literal["tagging", "classification"]
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
        if not (self.folders or self.train):
            raise ValueError("there is nothing to learn from: name folders or train.")
        if self.pairs and self.task == "tagging":
            raise ValueError("pairs are for classification; tagging has one text per row.")
        if self.stride is not None and self.task == "classification":
            raise ValueError("stride is for tagging; a text is classified by what fits into max_length.")

    rows: ClassVar = ("train", "transfer", "train+transfer")
    rows_needed: ClassVar = "transfer is the training texts without labels where data.transfer names no others"


@dataclass(frozen=True)
class TaskEvaluation:
    """How taggers and classifiers are judged.

    Attributes:
        metric: of classification: a GLUE task, whose metric is taken, or the folder of an `evaluate` module.
        onnx: also export to ONNX, in float32 and int8, and measure that.
    """

    metric: str | None = None
    onnx: bool = False


@dataclass(frozen=True)
class MaskedFiles:
    """Text for masked language models.

    Attributes:
        task: `masked_lm`.
        train_files: texts, named as those for sentence embeddings are.
        max_length: tokens of a row; longer texts make several.
    """

    task: Literal["masked_lm"]
    train_files: Sequence[str]
    max_length: Count = 128

    kind: ClassVar = "masked language models"
    student_ways: ClassVar = (SHRINK_SETTINGS | {"tokenizer", "weigh_pieces"},)
    rows: ClassVar = ("train",)
    rows_needed: ClassVar = "train is data.train_files"


@dataclass(frozen=True)
class MaskedEvaluation:
    """What masked language models are judged by. Their texts are never learnt from.

    Attributes:
        dev_files: texts whose losses tell which checkpoint is best, where a stage asks.
        test_files: texts whose hidden words are to be guessed at the end; without them there is no report.
    """

    dev_files: Sequence[str] = ()
    test_files: Sequence[str] = ()
