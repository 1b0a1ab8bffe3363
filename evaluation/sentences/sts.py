"""Semantic textual similarity: rank correlation of cosine similarities with human scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from ...data.readers import ScoredPairs
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


def sts_scores(embed: Callable[[Sequence[str]], Tensor | np.ndarray], task: Mapping[str, ScoredPairs]) -> StsScores:
    """Score a model, given as a function from texts to `[texts, dim]`, on the named subsets of an STS task."""
    embedded = {name: (embed(pairs.first), embed(pairs.second), pairs.scores) for name, pairs in task.items()}
    found = {name: sts_spearman(*sides) for name, sides in embedded.items()}
    first, second = (torch.cat([torch.as_tensor(sides[i]) for sides in embedded.values()]) for i in (0, 1))
    gold = [score for *_, scores in embedded.values() for score in scores]
    weights = [len(pairs.scores) for pairs in task.values()]
    values = list(found.values())
    together = sts_spearman(first, second, gold)
    return StsScores(together, float(np.mean(values)), float(np.average(values, weights=weights)), found)


def score_sts(model: SentenceEncoder, pairs: Dataset) -> dict[str, float]:
    """Score a model on a table of pairs.

    Args:
        model: how embeddings are made, as `SentenceEncoder.from_pretrained` finds it in a model's files.
        pairs: columns `sentence1`, `sentence2` and `score` (see `read_sts`).

    Returns:
        `sts`: Spearman's rank correlation of cosine similarity and score (see `sts_spearman`).
    """
    return {"sts": sts_spearman(model.encode(pairs["sentence1"]), model.encode(pairs["sentence2"]), pairs["score"])}
