"""A `Router` of sentence-transformers: one model with modules of its own for queries, for documents, ..."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


def resolve_route(source: str, routes: Collection[str], settings: Mapping[str, Any], asked: str | None) -> str:
    """The route that sentence-transformers takes for a text whose task is `asked`.

    Args:
        source: what errors call the model.
        routes: the names of the Router's routes, in their order.
        settings: `default_route`, `allow_empty_key` and `route_mappings`, as the Router saves them: the keys of the
            last are pairs of task and modality, written as Python writes them.
        asked: a task ("query"), or the name of a route; None for neither.

    Raises:
        ValueError: there is no such route, or none is asked for and the Router has no default.
    """
    mapped = settings.get("route_mappings") or {}
    pairs = [(asked, "text"), (asked, None), (None, "text"), (None, None)]
    found = next((mapped[str(pair)] for pair in pairs if str(pair) in mapped), asked)
    if found is None and "text" in routes:
        found = "text"
    if found is None:
        empty = settings.get("allow_empty_key", True)
        found = settings.get("default_route") or (next(iter(routes)) if empty else None)
    if found not in routes:
        named = "no route by default" if asked is None else f"no route {asked!r}"
        raise ValueError(
            f"{source} has {named}, only: {', '.join(routes)}. Choose one by route= of SentenceEncoder.from_pretrained "
            "or SentenceEncoder.of, and hand over what they return."
        )
    return found


def refuse_route(source: str, asked: str | None) -> None:
    """Refuse a route of a model that has none.

    Raises:
        ValueError: one is asked for.
    """
    if asked is not None:
        raise ValueError(f"{source} has no routes, but route={asked!r} was asked for. Leave route out.")
