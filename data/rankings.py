"""Converts groups to queries with lists of documents or to pairs, and mines hard negatives."""

import math
from itertools import chain

import torch
from datasets import Dataset, Features, List, Value

from ..modeling.encoding import SentenceEncoder

_DOCUMENTS = Features({"query": Value("string"), "documents": List(Value("string"))})
# Maximal number of cosines in memory, 256 MB.
_COSINES = 2**26


def as_rankings(groups: Dataset) -> Dataset:
    """Convert groups to queries with lists of documents.

    Args:
        groups: dataset from `read_groups`: columns `anchor`, `positive` and optionally `negative`; or `query` and
            `documents`, which are not changed, with or without `scores`.

    Returns:
        Columns `query` and `documents` (the positive first); and `scores` if there are any.

    Raises:
        ValueError: groups are single texts, or hold something else than texts.
    """
    if "documents" in groups.column_names:
        _check_texts(groups, {"query": "string", "documents": "List(string)"})
        return groups
    query, *documents = groups.column_names
    if not documents:
        raise ValueError(f"A query needs documents, but the rows have only the column {query}.")
    _check_texts(groups, dict.fromkeys(groups.column_names, "string"))

    def ranked(columns: dict[str, list[str]]) -> dict[str, list]:
        lists = zip(*(columns[name] for name in documents), strict=True)
        return {"query": columns[query], "documents": list(map(list, lists))}

    return groups.map(ranked, batched=True, remove_columns=groups.column_names, features=_DOCUMENTS)


def _check_texts(groups: Dataset, expected: dict[str, str]) -> None:
    """Refuse other types: a text's characters would be taken for documents, and a number for a text."""
    for name, kind in expected.items():
        found = groups.features.get(name)
        texts = getattr(found, "feature", None) if kind == "List(string)" else found
        if getattr(texts, "dtype", None) not in ("string", "large_string"):
            raise ValueError(
                f"The column {name} must be of type {kind}, but {'is missing' if found is None else f'is {found}'}. "
                "Groups are a query and a list of documents, or columns of texts alone: anchor, positive, negative."
            )


def pairs_of(groups: Dataset) -> Dataset:
    """Convert groups to pairs of a query and one of its documents, in order, for a cross-encoder.

    Args:
        groups: see `as_rankings`.

    Returns:
        Columns `query` and `document`; and `score` if there are scores.

    Raises:
        ValueError: groups are single texts, or hold something else than texts; or a row doesn't have a finite score for
            each document.
    """
    groups = as_rankings(groups)
    features = Features({"query": Value("string"), "document": Value("string")})
    if "scores" in groups.column_names:
        features["score"] = Value("float32")

    def taken_apart(columns: dict[str, list], indices: list[int]) -> dict[str, list]:
        lists = zip(columns["query"], columns["documents"], strict=True)
        made = {"query": [query for query, documents in lists for _ in documents]}
        made["document"] = list(chain.from_iterable(columns["documents"]))
        if "scores" in columns:
            for row, documents, scores in zip(indices, columns["documents"], columns["scores"], strict=True):
                if scores is None or len(scores) != len(documents):
                    raise ValueError(
                        f"Row {row + 1} (from 1): each document needs a score, but there are {len(documents)} "
                        f"documents and {len(scores or ())} scores."
                    )
                if not all(score is not None and math.isfinite(score) for score in scores):
                    raise ValueError(f"Row {row + 1} (from 1): scores must be finite numbers, but are {scores}.")
            made["score"] = list(chain.from_iterable(columns["scores"]))
        return made

    settings = {"batched": True, "with_indices": True, "remove_columns": groups.column_names}
    return groups.map(taken_apart, features=features, **settings)


def mine_negatives(groups: Dataset, encoder: SentenceEncoder, count: int, *, batch_size: int = 32) -> Dataset:
    """Add the nearest documents of other queries to each query, as candidates for a reranker.

    The search is exact, by the cosines of all queries and documents. A query's own documents in any row are left out,
    and so is the query itself. The mined documents may include relevant ones; a reranker gives these high scores.

    Args:
        groups: see `as_rankings`.
        encoder: embeds queries and documents, with its prompts named "query" and "document" if it has them.
        count: number of documents to add to each query.
        batch_size: texts per forward pass.

    Returns:
        Columns `query` and `documents`: the query's own documents, then the added ones, nearest first.

    Raises:
        ValueError: `count` is below 1, or there are not enough documents.
    """
    groups = as_rankings(groups).select_columns(["query", "documents"])
    own: dict[str, set[str]] = {}
    for query, documents in zip(groups["query"], groups["documents"], strict=True):
        own.setdefault(query, set()).update(documents)
    queries = list(own)
    documents = sorted(set().union(*own.values()))
    places = {document: place for place, document in enumerate(documents)}
    left_out = {query: [places[text] for text in {query, *given} if text in places] for query, given in own.items()}
    most = len(documents) - max(map(len, left_out.values()))
    if not 1 <= count <= most:
        raise ValueError(f"count={count}, but every query can get 1 to {most} of the {len(documents)} documents.")

    def embedded(texts: list[str], prompt: str) -> torch.Tensor:
        name = prompt if prompt in encoder.modules.prompts else None
        return torch.nn.functional.normalize(encoder.encode(texts, prompt_name=name, batch_size=batch_size), dim=-1)

    asked, given = embedded(queries, "query"), embedded(documents, "document")
    nearest: dict[str, list[str]] = {}
    at_a_time = max(1, _COSINES // len(documents))
    for start in range(0, len(queries), at_a_time):
        chunk = queries[start : start + at_a_time]
        cosines = asked[start : start + at_a_time] @ given.T
        for row, query in enumerate(chunk):
            cosines[row, left_out[query]] = -torch.inf
        for query, found in zip(chunk, cosines.topk(count).indices.tolist(), strict=True):
            nearest[query] = [documents[place] for place in found]
    pairs = zip(groups["query"], groups["documents"], strict=True)
    more = [[*documents, *nearest[query]] for query, documents in pairs]
    return Dataset.from_dict({"query": groups["query"], "documents": more}, features=_DOCUMENTS)
