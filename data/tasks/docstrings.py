"""Two small labelled tasks that every machine with Python has, made of the docstrings of its standard library."""

import builtins
import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from datasets import Dataset, Features, List, Value

from ..fingerprints import text_digest
from ..readers import Docstring, library_docstrings, sides_of, split_sentences
from .tags import OUTSIDE
from .task import Task

CODE_TAGS = (OUTSIDE, "B-PARAMETER", "B-EXCEPTION", "B-CONSTANT")

_WORD = re.compile(r"\w+(?:[.']\w+)*|[^\w\s]+")
_EXCEPTIONS = frozenset(
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
)
_CONSTANTS = frozenset(("None", "True", "False"))
# A class is a part of the library with so many sentences at least.
_FEWEST_SENTENCES = 150
# Of a hundred docstrings.
_TEST, _DEV = 20, 10


def code_words(root: str | os.PathLike | None = None) -> Task:
    """Tagging: which words of a docstring name a parameter of the function that it describes, a built-in exception, or
    a constant.

    Parameters are those of the function's signature, which a tagger doesn't see: whether "file" is one depends on the
    sentence around it. No top-level module is on two sides (see `docstring_corpus`). Sentences that describe functions
    have tags; the transfer set is all sentences of the modules for training.

    Args:
        root: folder of a library; Python's own by default.

    Raises:
        FileNotFoundError, ValueError: as `docstring_corpus`.
    """
    docstrings = library_docstrings(root)
    sides, splits, transfer = sides_of(docstrings), {"train": [], "dev": [], "test": []}, []
    for docstring, sentence in _sentences(docstrings):
        side = sides[docstring.module.partition(".")[0]]
        words = _WORD.findall(sentence)
        if side == "train":
            transfer.append(" ".join(words))
        if docstring.parameters:
            labels = [CODE_TAGS.index(_tag(word, docstring.parameters)) for word in words]
            splits[side].append({"words": words, "labels": labels, "language": "en"})
    features = Features({"words": List(Value("string")), "labels": List(Value("int32")), "language": Value("string")})
    return _task("tagging", CODE_TAGS, splits, features, transfer)


def library_parts(root: str | os.PathLike | None = None) -> Task:
    """Classification: which part of the library (`asyncio`, `email`, `tkinter`, ...) a sentence of a docstring is from.

    A docstring's sentences are all on one side. Sentences that parts share (such as "Return the next item.") are left
    out but for the first.

    Args:
        root: folder of a library; Python's own by default.

    Raises:
        FileNotFoundError: as `docstring_corpus`.
        ValueError: fewer than two parts of the library have enough sentences.
    """
    sentences = _sentences(library_docstrings(root))
    found = [(docstring, docstring.module.partition(".")[0], text) for docstring, text in sentences]
    counts = Counter(part for _, part, _ in found)
    public = ((part, count) for part, count in counts.items() if not part.startswith("_"))
    labels = tuple(sorted(part for part, count in public if count >= _FEWEST_SENTENCES))
    if len(labels) < 2:
        raise ValueError(f"Only {len(labels)} parts of the library have {_FEWEST_SENTENCES} sentences or more.")
    splits: dict[str, list[dict[str, Any]]] = {"train": [], "dev": [], "test": []}
    for docstring, part, text in found:
        if part in labels:
            place = text_digest(docstring.text) % 100
            side = "test" if place < _TEST else "dev" if place < _TEST + _DEV else "train"
            splits[side].append({"text": text, "labels": labels.index(part), "language": "en"})
    features = Features({"text": Value("string"), "labels": Value("int32"), "language": Value("string")})
    return _task("classification", labels, splits, features, [row["text"] for row in splits["train"]])


def _sentences(docstrings: list[Docstring]) -> Iterator[tuple[Docstring, str]]:
    """Each distinct sentence with the docstring that says it first."""
    seen: set[str] = set()
    for docstring in docstrings:
        for sentence in split_sentences(docstring.text):
            if sentence not in seen:
                seen.add(sentence)
                yield docstring, sentence


def _tag(word: str, parameters: frozenset[str]) -> str:
    if word in parameters:
        return "B-PARAMETER"
    return "B-EXCEPTION" if word in _EXCEPTIONS else "B-CONSTANT" if word in _CONSTANTS else OUTSIDE


def _task(
    kind: str, labels: tuple[str, ...], splits: dict[str, list[dict[str, Any]]], features: Features, transfer: list[str]
) -> Task:
    made = {name: Dataset.from_list(rows, features=features) for name, rows in splits.items()}
    return Task(kind, labels, made, Dataset.from_dict({"text": transfer}), pairs=False)
