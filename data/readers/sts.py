"""Pairs of sentences with the scores that people gave them."""

from __future__ import annotations

from pathlib import Path

from datasets import Dataset, Value, concatenate_datasets

from .datasets import read_dataset
from .senteval import read_scored_pairs


def read_sts(source: str) -> Dataset:
    """Pairs with gold scores: `sentence1`, `sentence2`, `score`.

    Args:
        source: a TSV with a header, or without one and in this order (as STS 2017's are), or any dataset with these
            columns; or two with a plus between them (`en.tsv+de.tsv`), whose rows translate each other, for pairs of a
            sentence in the one language and a sentence in the other.

    Raises:
        ValueError: two files that don't have the same scores.
    """
    first, plus, second = source.partition("+")
    if not plus or Path(source).exists():
        if Path(source).suffix not in (".tsv", ".txt"):
            return read_dataset(source).cast_column("score", Value("float64"))
        found = read_scored_pairs(source)
        return Dataset.from_dict({"sentence1": found.first, "sentence2": found.second, "score": found.scores})
    sides = [read_sts(first), read_sts(second)]
    if sides[0]["score"][:] != sides[1]["score"][:]:
        raise ValueError(
            f"Rows of {first} and {second} are to translate each other, but their scores differ ({len(sides[0])} and "
            f"{len(sides[1])} rows)."
        )
    return concatenate_datasets(
        [sides[0].select_columns(["sentence1", "score"]), sides[1].select_columns("sentence2")], axis=1
    )
