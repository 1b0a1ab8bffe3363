"""Entities in the tags that a model predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from .prediction import OUTSIDE, TagPrediction


@dataclass(frozen=True, slots=True)
class EntitySpan:
    """One entity: its type, its first word, one past its last word, and the mean probability of its words' tags."""

    type: str
    first: int
    end: int
    probability: float


def entity_spans(predictions: Sequence[TagPrediction]) -> list[EntitySpan]:
    """The entities of a row, grouped as `transformers.pipeline("token-classification")` groups words.

    An I- tag goes on with the entity before it if that is of the same type, and else begins one, which a score by
    `entity_scores` would not count. Tags without B- or I- stand for a type of their own. Words without a probability
    belong to no entity.
    """
    groups: list[tuple[str, list[int]]] = []
    for place, prediction in enumerate(predictions):
        begins, kind = _parts(prediction.tag)
        if prediction.probability is None:
            kind = OUTSIDE
        if groups and groups[-1][0] == kind and not begins:
            groups[-1][1].append(place)
        else:
            groups.append((kind, [place]))
    return [
        EntitySpan(kind, places[0], places[-1] + 1, fmean(predictions[place].probability for place in places))
        for kind, places in groups
        if kind != OUTSIDE
    ]


def _parts(tag: str) -> tuple[bool, str]:
    """Whether a tag begins an entity whatever stands before it, and the entity's type."""
    return (tag[0] == "B", tag[2:]) if tag.startswith(("B-", "I-")) else (False, tag)
