"""Semantic textual similarity: rank correlation of cosine similarities with human scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
from datasets import Dataset
from torch import Tensor

from ...modeling.encoding import SentenceEncoder
from .similarity import pair_cosines, rank_correlation


def sts_spearman(first: Tensor | np.ndarray, second: Tensor | np.ndarray, gold: Sequence[float]) -> float:
    """Spearman's rank correlation of cosine similarities with human scores, the usual metric of STS.

    Args:
        first: `[pairs, dim]`, embeddings of the first sentences.
        second: `[pairs, dim]`, embeddings of the second sentences.
        gold: `pairs` human scores; higher means more similar.

    Returns:
        A number in [-1, 1]. Papers report it times 100.

    Raises:
        ValueError: lengths differ, or a side is constant or contains NaN.
    """
    if not len(first) == len(second) == len(gold):
        raise ValueError(
            f"Each pair needs two embeddings and a score, but there are {len(first)}, {len(second)} and {len(gold)} "
            "of them."
        )
    return rank_correlation(pair_cosines(first, second), np.asarray(gold, dtype=np.float64))


@dataclass(frozen=True)
class StsScores:
    """Spearman's rank correlations on a task with several subsets, aggregated in three ways.

    Attributes:
        all: correlation over the pairs of all subsets, which most papers report (Gao et al. 2021, SimCSE, appendix B).
        mean: mean of the subsets' correlations.
        weighted: mean of the subsets' correlations, weighted by their numbers of pairs.
        subsets: subset -> correlation.
    """

    all: float
    mean: float
    weighted: float
    subsets: Mapping[str, float]


def sts_scores(model: SentenceEncoder, task: Mapping[str, Dataset]) -> StsScores:
    """Score a model on the subsets of an STS task (see `read_sts_task`), with a progress bar."""
    pairs = sts_pairs(partial(model.encode, progress=True), task)
    found = {name: rank_correlation(*pair) for name, pair in pairs.items()}
    together = rank_correlation(*map(np.concatenate, zip(*pairs.values(), strict=True)))
    values, weights = list(found.values()), list(map(len, task.values()))
    return StsScores(together, float(np.mean(values)), float(np.average(values, weights=weights)), found)


def score_sts(model: SentenceEncoder, pairs: Dataset) -> dict[str, float]:
    """Score a model on a table of pairs.

    Args:
        model: how embeddings are made, as `SentenceEncoder.from_pretrained` finds it in a model's files.
        pairs: columns `sentence1`, `sentence2` and `score` (see `read_sts`).

    Returns:
        `sts`: Spearman's rank correlation of cosine similarity and score (see `sts_spearman`).
    """
    return sts_of_each(model, {"sts": pairs})


def sts_of_each(model: SentenceEncoder, tables: Mapping[str, Dataset]) -> dict[str, float]:
    """Spearman correlation of cosines with each table's gold scores. A text in several tables is embedded once."""
    return {name: rank_correlation(*pair) for name, pair in sts_pairs(model.encode, tables).items()}


def sts_pairs(
    encode: Callable[[list[str]], Tensor], tables: Mapping[str, Dataset]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The cosines of each table's pairs, and their gold scores: `[pairs]` each. `encode` embeds texts."""
    sides = {(name, side): pairs[side] for name, pairs in tables.items() for side in ("sentence1", "sentence2")}
    rows = {text: row for row, text in enumerate(dict.fromkeys(chain.from_iterable(sides.values())))}
    embeddings = encode(list(rows))
    of_side = {place: embeddings[[rows[text] for text in texts]] for place, texts in sides.items()}
    return {
        name: (
            pair_cosines(of_side[name, "sentence1"], of_side[name, "sentence2"]),
            np.asarray(pairs["score"], dtype=np.float64),
        )
        for name, pairs in tables.items()
    }
