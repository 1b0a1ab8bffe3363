"""Semantic textual similarity: do cosine similarities order sentence pairs as people do?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from .similarity import rank_correlation, unit_vectors


def sts_spearman(first: Tensor | np.ndarray, second: Tensor | np.ndarray, gold: Sequence[float]) -> float:
    """Spearman's rank correlation of cosine similarity and human scores, STS's usual measure.

    Args:
        first: `[pairs, dim]`, embeddings of the first sentences.
        second: `[pairs, dim]`, embeddings of the second sentences.
        gold: `pairs` human scores, on any scale on which more means more alike.

    Returns:
        A number in [-1, 1] (papers print 100 times it).

    Raises:
        ValueError: lengths differ, or a side is constant or holds NaN.
    """
    if not len(first) == len(second) == len(gold):
        raise ValueError(
            f"Each pair needs two embeddings and a score, but there are {len(first)}, {len(second)} and {len(gold)}."
        )
    cosines = (unit_vectors(first, "first") * unit_vectors(second, "second")).sum(1)
    return rank_correlation(cosines.cpu().numpy(), np.asarray(gold, dtype=np.float64))
