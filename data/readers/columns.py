"""What columns are usually called, in the header rows of tables and in datasets alike."""

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

# For each group of columns, what they may be called, the likeliest first.
Choices = Sequence[Sequence[tuple[str, ...]]]


def find_columns(names: Iterable[str], choices: Choices) -> tuple[str, ...] | None:
    """The first names of each choice that are all there, whatever their case and the spaces around them.

    `find_columns(["Label", "text"], [TEXTS, LABELS])` is `("text", "Label")`. None where a choice has none.
    """
    known = {name.strip().casefold(): name for name in reversed(list(names))}
    found = [next((each for each in choice if known.keys() >= set(each)), None) for choice in choices]
    return None if None in found else tuple(known[name] for name in chain.from_iterable(found))
