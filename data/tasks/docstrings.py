"""Two small labelled tasks from the docstrings of Python's standard library, which need no download."""

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
# Minimal number of sentences of a class.
_FEWEST_SENTENCES = 150
# Percentages of docstrings.
_TEST, _DEV = 20, 10


def code_words(root: str | os.PathLike | None = None) -> Task:
    """Tag the words of a docstring that name a parameter of its function, a built-in exception, or a constant.

    Parameters are taken from the function's signature, which the tagger doesn't see. So whether "file" is a parameter
    depends on the sentence around it. No top-level module is in two splits (see `docstring_corpus`). Only sentences
    about functions with parameters are tagged. The transfer set has all sentences of the training modules.

    Args:
        root: folder of a library. Default: Python's standard library.

    Raises:
        FileNotFoundError, ValueError: see `docstring_corpus`.
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
    """Classify sentences of docstrings by their part of the library (`asyncio`, `email`, `tkinter`, ...).

    All sentences of a docstring are in the same split. Repeated sentences (such as "Return the next item.") are used
    once.

    Args:
        root: folder of a library. Default: Python's standard library.

    Raises:
        FileNotFoundError: see `docstring_corpus`.
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
    """Each distinct sentence, with the first docstring that contains it."""
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
