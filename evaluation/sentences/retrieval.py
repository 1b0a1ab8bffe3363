"""Retrieval of each query's document among all documents."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from .similarity import unit_vectors

# Cosines that differ by less are ties: embeddings of equal texts are equal only up to rounding in float32.
TIE = 1e-6


def distinct(texts: Iterable[str]) -> tuple[list[int], list[int]]:
    """Leave out copies of a text, which would count as other documents that are as similar.

    Returns:
        The row of each distinct text's first copy; and for each text, its place among those.
    """
    places, first, own = {}, [], []
    for row, text in enumerate(texts):
        if text not in places:
            places[text] = len(first)
            first.append(row)
        own.append(places[text])
    return first, own


def retrieval_scores(
    queries: Tensor | np.ndarray, documents: Tensor | np.ndarray, own: Sequence[int] | None = None
) -> dict[str, float]:
    """Score the retrieval of each query's document by cosine similarity.

    Args:
        queries: `[queries, dim]`.
        documents: `[documents, dim]`, each document once (see `distinct`).
        own: `[queries]`, the row of each query's document. If None, row i is the document of query i, and further rows
            are distractors.

    Returns:
        `mrr@10`, the mean of 1 / rank, or 0 beyond rank 10; `recall@1` and `recall@10`, the share of queries whose
        document is at rank 1, or at rank 10 or better. All in [0, 1].

    Raises:
        ValueError: see `own_document_ranks`.
    """
    return scores_of_ranks(own_document_ranks(queries, documents, own))


def scores_of_ranks(ranks: Tensor) -> dict[str, float]:
    """The scores of `retrieval_scores`, of `[queries]` ranks from 1."""
    ranks = ranks.double()
    return {
        "mrr@10": float(torch.where(ranks <= 10, 1 / ranks, 0).mean()),
        "recall@1": float((ranks <= 1).double().mean()),
        "recall@10": float((ranks <= 10).double().mean()),
    }


def bitext_hits(
    source: Tensor | np.ndarray, target: Tensor | np.ndarray, sentences: tuple[Sequence[str], Sequence[str]]
) -> tuple[Tensor, Tensor]:
    """Whether each sentence's nearest neighbour among all sentences of the other language is its translation.

    Args:
        source: `[pairs, dim]`.
        target: `[pairs, dim]`; row i is the translation of row i of `source`.
        sentences: the sentences of `source` and of `target`. A copy of the translation is the translation.

    Returns:
        `[pairs]` bool from source to target, and from target to source.

    Raises:
        ValueError: see `own_document_ranks`; or the sides differ in length.
    """
    if len(source) != len(target):
        raise ValueError(f"Each sentence needs its translation, but there are {len(source)} and {len(target)}.")
    (sources, own_source), (targets, own_target) = map(distinct, sentences)
    forth, back = (source, target[targets], own_target), (target, source[sources], own_source)
    return own_document_ranks(*forth) == 1, own_document_ranks(*back) == 1


def own_document_ranks(
    queries: Tensor | np.ndarray,
    documents: Tensor | np.ndarray,
    own: Sequence[int] | None = None,
    *,
    query_chunk: int = 1024,
    document_chunk: int = 8192,
) -> Tensor:
    """Rank of each query's document among all documents by cosine similarity.

    Other documents with the same similarity rank higher, so a model that gives all texts the same embedding gets the
    last rank everywhere. Holds `query_chunk * document_chunk` similarities at a time, 64 MB by default.

    Args:
        queries: `[queries, dim]`.
        documents: `[documents, dim]`.
        own: `[queries]`, the row of each query's document; if None, row i is the document of query i.
        query_chunk: queries compared at a time.
        document_chunk: documents compared at a time.

    Returns:
        `[queries]`, int64 ranks from 1.

    Raises:
        ValueError: a query has no document, the dimensions differ, or an embedding is not finite.
    """
    queries, documents = unit_vectors(queries, "queries"), unit_vectors(documents, "documents")
    if own is None:
        own = torch.arange(len(queries))
    else:
        own = torch.as_tensor(own)
        if own.dtype == torch.bool or own.is_floating_point() or own.shape != (len(queries),):
            raise ValueError(
                f"own must hold the row of each of the {len(queries)} queries' documents, but is of shape "
                f"{list(own.shape)} and {own.dtype}."
            )
    own = own.to(documents.device, torch.int64)  # uint8 would be a mask
    if own.min() < 0 or own.max() >= len(documents) or queries.shape[1] != documents.shape[1]:
        raise ValueError(
            f"Each query needs a document of the same dimension, but queries are {list(queries.shape)}, documents "
            f"{list(documents.shape)}, and the queries' documents are the rows {int(own.min())} to {int(own.max())}."
        )
    similarity = (queries * documents[own]).sum(1)
    ranks = []
    for chunk, least in zip(queries.split(query_chunk), (similarity - TIE).split(query_chunk), strict=True):
        # The rank is the number of documents that are at least as similar as the query's document, itself included.
        reached = [(chunk @ part.T >= least[:, None]).sum(1) for part in documents.split(document_chunk)]
        ranks.append(torch.stack(reached).sum(0))
    return torch.cat(ranks)
