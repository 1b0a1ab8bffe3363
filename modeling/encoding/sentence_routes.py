"""Routes of a sentence-transformers `Router`: separate modules for queries, documents, ..."""

from collections.abc import Collection, Mapping
from typing import Any


def resolve_route(source: str, routes: Collection[str], settings: Mapping[str, Any], asked: str | None) -> str:
    """The route that sentence-transformers chooses for a text with the task `asked`.

    Args:
        source: the model's name in error messages.
        routes: the names of the Router's routes, in order.
        settings: `default_route`, `allow_empty_key` and `route_mappings` as the Router saves them. The keys of
            `route_mappings` are the `str` of pairs `(task, modality)`.
        asked: a task ("query") or the name of a route; None for the default.
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
        missing = "default route" if asked is None else f"route {asked!r}"
        raise ValueError(
            f"{source} has no {missing}. Its routes are: {', '.join(routes)}. Choose one with "
            "SentenceEncoder.from_pretrained(..., route=...) or SentenceEncoder.of(..., route=...) and pass the result."
        )
    return found


def refuse_route(source: str, asked: str | None) -> None:
    """Refuse a route for a model without a Router."""
    if asked is not None:
        raise ValueError(f"{source} has no routes, but route={asked!r} was given. Leave route out.")
