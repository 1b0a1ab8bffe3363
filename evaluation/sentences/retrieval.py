"""Retrieval: does a query find its own document among all documents?"""

import numpy as np
import torch
from torch import Tensor

from .similarity import unit_vectors

# Cosines that differ by less are ties. Equal texts get equal embeddings only up to the rounding of float32.
TIE = 1e-6


def retrieval_scores(queries: Tensor | np.ndarray, documents: Tensor | np.ndarray) -> dict[str, float]:
    """Score the search for each query's own document by cosine similarity.

    Args:
        queries: `[queries, dim]`.
        documents: `[documents, dim]`; the document of query i is row i. More documents than queries are distractors.

    Returns:
        `mrr@10`, the mean of 1 / rank, 0 below rank 10; `recall@1` and `recall@10`, the shares of queries whose
        document ranks that high. All in [0, 1].

    Raises:
        ValueError: see `own_document_ranks`.
    """
    return scores_of_ranks(own_document_ranks(queries, documents))


def scores_of_ranks(ranks: Tensor) -> dict[str, float]:
    """The scores of `retrieval_scores`, of `[queries]` ranks from 1."""
    ranks = ranks.double()
    return {
        "mrr@10": float(torch.where(ranks <= 10, 1 / ranks, 0).mean()),
        "recall@1": float((ranks <= 1).double().mean()),
        "recall@10": float((ranks <= 10).double().mean()),
    }


def bitext_accuracy(source: Tensor | np.ndarray, target: Tensor | np.ndarray) -> tuple[float, float]:
    """How often a sentence's translation is its nearest neighbour among all sentences of the other language.

    Args:
        source: `[pairs, dim]`.
        target: `[pairs, dim]`; row i translates row i of `source`.

    Returns:
        From source to target, and back; in 0..1.

    Raises:
        ValueError: see `own_document_ranks`; or the sides differ in length.
    """
    there, back = bitext_hits(source, target)
    return float(there.double().mean()), float(back.double().mean())


def bitext_hits(source: Tensor | np.ndarray, target: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
    """Of each pair whether `bitext_accuracy` counts it: `[pairs]` bool from source to target, and back."""
    if len(source) != len(target):
        raise ValueError(f"Each sentence needs its translation, but there are {len(source)} and {len(target)}.")
    return own_document_ranks(source, target) == 1, own_document_ranks(target, source) == 1


def own_document_ranks(
    queries: Tensor | np.ndarray,
    documents: Tensor | np.ndarray,
    *,
    query_chunk: int = 1024,
    document_chunk: int = 8192,
) -> Tensor:
    """Where each query's own document comes among all documents, by cosine similarity.

    Ties count against it: a document as similar as the own one ranks before it, so a model that embeds all texts
    alike is last everywhere. Holds `query_chunk * document_chunk` similarities at a time, 64 MB as they are.

    Args:
        queries: `[queries, dim]`.
        documents: `[documents, dim]`, at least as many; the document of query i is row i.
        query_chunk: queries compared at a time.
        document_chunk: documents compared at a time.

    Returns:
        `[queries]`, int64 ranks from 1.

    Raises:
        ValueError: fewer documents than queries, another dimension, or an embedding that is zero or not finite.
    """
    queries, documents = unit_vectors(queries, "queries"), unit_vectors(documents, "documents")
    if len(documents) < len(queries) or queries.shape[1] != documents.shape[1]:
        raise ValueError(
            f"Each query needs a document of its own and the same dimension, but queries are {list(queries.shape)} and "
            f"documents {list(documents.shape)}."
        )
    own = (queries * documents[: len(queries)]).sum(1)
    ranks = []
    for chunk, least in zip(queries.split(query_chunk), (own - TIE).split(query_chunk), strict=True):
        # The own document is among those that reach its own similarity, so their number is its rank.
        reached = [(chunk @ part.T >= least[:, None]).sum(1) for part in documents.split(document_chunk)]
        ranks.append(torch.stack(reached).sum(0))
    return torch.cat(ranks)
