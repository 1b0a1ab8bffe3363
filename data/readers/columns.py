"""Usual names of columns in header rows and datasets."""

from collections.abc import Iterable, Sequence
from itertools import chain

TEXTS = (("text",), ("sentence",))
PAIRS = (
    ("text", "text_pair"),
    ("text1", "text2"),
    ("sentence1", "sentence2"),
    ("question", "sentence"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
)
WORDS = (("words",), ("tokens",))
TAGS = (("tags",), ("ner_tags",), ("labels",), ("label",))
LABELS = (("label",), ("labels",), ("score",))

# For each group of columns, their possible names, the most likely first.
Choices = Sequence[Sequence[tuple[str, ...]]]


def find_columns(names: Iterable[str], choices: Choices) -> tuple[str, ...] | None:
    """For each choice, its first names that all exist, ignoring case and surrounding spaces.

    `find_columns(["Label", "text"], [TEXTS, LABELS])` is `("text", "Label")`. None if nothing exists for a choice.
    """
    known = {name.strip().casefold(): name for name in reversed(list(names))}
    found = [next((each for each in choice if known.keys() >= set(each)), None) for choice in choices]
    return None if None in found else tuple(known[name] for name in chain.from_iterable(found))
