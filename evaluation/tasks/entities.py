"""Entity-level scores of taggers: precision, recall and F1 by type and language, and confusions."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from ..report import aligned

if TYPE_CHECKING:
    from seqeval.scheme import Entity

logger = logging.getLogger(__name__)

_TAG = re.compile(r"O|[BI](-.+)?")


@dataclass(frozen=True)
class EntityScore:
    """Precision, recall and F1, each in [0, 1], and the number of gold entities."""

    precision: float
    recall: float
    f1: float
    support: int

    @classmethod
    def of_counts(cls, correct: int, predicted: int, gold: int) -> EntityScore:
        """Compute the scores from counts of entities. A ratio with a denominator of 0 is 0."""
        precision = correct / predicted if predicted else 0.0
        recall = correct / gold if gold else 0.0
        f1 = 2 * precision * recall / (precision + recall) if correct else 0.0
        return cls(precision, recall, f1, gold)

    @classmethod
    def mean(cls, scores: Iterable[EntityScore]) -> EntityScore:
        """Unweighted mean of each score, and the sum of the support."""
        scores = list(scores)
        means = (fmean(getattr(score, name) for score in scores) for name in ("precision", "recall", "f1"))
        return cls(*means, sum(score.support for score in scores))


@dataclass(frozen=True)
class EntityConfusion:
    """Counts of gold entities by the matching prediction, and counts of spurious predictions.

    For each gold type, the sum over `types`, `boundary` and `missed` is its support.

    Attributes:
        types: gold type -> type predicted for exactly the same words -> count; the diagonal holds correct predictions.
        boundary: gold type -> number of entities that overlap with predictions of any type, none with the same words.
        missed: gold type -> number of entities that overlap with no prediction.
        spurious: predicted type -> number of predictions that overlap with no gold entity.
    """

    types: dict[str, dict[str, int]]
    boundary: dict[str, int]
    missed: dict[str, int]
    spurious: dict[str, int]


@dataclass(frozen=True)
class EntityScores:
    """Scores of a tagger.

    Attributes:
        micro: scores over all entities; the F1 is the CoNLL score.
        macro: mean over the types, including types that occur only in predictions.
        by_type: type -> scores, in alphabetical order.
        by_language: language -> micro scores, for languages with gold entities, in the order of their first rows.
        language_mean: mean over `by_language`; None without languages.
        confusion: see `EntityConfusion`.
    """

    micro: EntityScore
    macro: EntityScore
    by_type: dict[str, EntityScore]
    by_language: dict[str, EntityScore]
    language_mean: EntityScore | None
    confusion: EntityConfusion

    def table(self) -> str:
        """All scores as plain text."""
        scores = [("by type", self.by_type | {"micro": self.micro, "macro": self.macro})]
        if self.language_mean:
            scores.append(("by language", self.by_language | {"mean": self.language_mean}))
        blocks = [
            [[title, "precision", "recall", "F1", "gold"], *([name, *_cells(score)] for name, score in lines.items())]
            for title, lines in scores
        ]
        return "\n\n".join("\n".join(aligned(block, gap=3)) for block in [*blocks, self._confusion_table()])

    def _confusion_table(self) -> list[list[str]]:
        types, found = list(self.by_type), self.confusion
        body = [
            [gold, *(found.types[gold][predicted] for predicted in types), found.boundary[gold], found.missed[gold]]
            for gold in types
        ]
        spurious = ["(spurious)", *(found.spurious[predicted] for predicted in types), "", ""]
        head = ["gold \\ predicted", *types, "(boundary)", "(missed)"]
        return [list(map(str, line)) for line in (head, *body, spurious)]


def entity_scores(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], languages: Sequence[str] | None = None
) -> EntityScores:
    """Score tags by entities. An entity is correct if its words and its type are.

    Entities are those of seqeval in strict mode (https://github.com/chakki-works/seqeval) with IOB2: an entity begins
    with a B- tag, and an I- tag that continues no entity of its type is ignored. Entities don't cross rows.

    Args:
        gold: for each row, one tag (O, B-type or I-type) per word.
        predicted: for each row, one tag per word.
        languages: one language per row.

    Raises:
        ValueError: the numbers of rows, of languages or of a row's tags differ, a tag is not in IOB2, or there are no
            gold entities.
    """
    from seqeval.scheme import IOB2, Entities

    _check(gold, predicted, languages)
    truth, found = (Entities(rows, IOB2).entities for rows in (gold, predicted))
    if not any(truth):
        raise ValueError(
            f"None of the {len(gold)} gold rows has an entity (a B- tag), so there is nothing to score. Is this the "
            "right file, and are its tags in IOB2 (B-type, I-type, O)?"
        )
    # An entity contains the index of its row, so the entities of all rows can be in one set.
    of_gold, of_predicted = set(chain(*truth)), set(chain(*found))
    _warn_of_iob1(predicted, len(of_predicted))
    correct = of_gold & of_predicted

    def scores_by(name_of: Callable[[Entity], str], names: Iterable[str]) -> dict[str, EntityScore]:
        counts = [Counter(map(name_of, entities)) for entities in (correct, of_predicted, of_gold)]
        return {name: EntityScore.of_counts(*(count[name] for count in counts)) for name in names}

    by_type = scores_by(lambda entity: entity.tag, sorted({entity.tag for entity in of_gold | of_predicted}))
    by_language = {}
    if languages is not None:
        languages = list(languages)  # a column of a dataset is slow to index
        of_all = scores_by(lambda entity: languages[entity.sent_id], dict.fromkeys(languages))
        by_language = {language: score for language, score in of_all.items() if score.support}
        if without := [language for language in of_all if language not in by_language]:
            logger.warning("Languages without gold entities are left out of the mean: %s.", ", ".join(without))
    return EntityScores(
        micro=EntityScore.of_counts(len(correct), len(of_predicted), len(of_gold)),
        macro=EntityScore.mean(by_type.values()),
        by_type=by_type,
        by_language=by_language,
        language_mean=EntityScore.mean(by_language.values()) if by_language else None,
        confusion=_confusion(truth, found, list(by_type)),
    )


def entity_counts(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> np.ndarray:
    """`[rows, 3]`: how many entities of each row are correct, how many are predicted, and how many are gold.

    The sums over any rows make their micro scores (`EntityScore.of_counts`).
    """
    from seqeval.scheme import IOB2, Entities

    _check(gold, predicted, None)
    pairs = zip(*(Entities(rows, IOB2).entities for rows in (gold, predicted)), strict=True)
    return np.array([[len(set(truth) & set(found)), len(set(found)), len(set(truth))] for truth, found in pairs])


def _warn_of_iob1(predicted: Sequence[Sequence[str]], entities: int) -> None:
    """Warn if nearly all spans begin with an I- tag, as in IOB1: strict mode ignores them."""
    spans = sum(
        tag.startswith("I") and before[1:] != tag[1:] for tags in predicted for before, tag in pairwise(["O", *tags])
    )
    if spans > 10 * max(entities, 1):
        logger.warning(
            "%d predicted spans begin with I- and are ignored, since entities begin with B- (IOB2). There are %d that "
            "do. A model that was fine-tuned on IOB1 tags has to be fine-tuned on IOB2 tags.",
            spans,
            entities,
        )


def _check(gold: Sequence, predicted: Sequence, languages: Sequence[str] | None) -> None:
    if len(gold) != len(predicted):
        raise ValueError(f"There are {len(gold)} gold rows, but {len(predicted)} predicted rows.")
    if languages is not None and len(languages) != len(gold):
        raise ValueError(f"Each row needs a language, but there are {len(gold)} rows and {len(languages)} languages.")
    for index, (truth, found) in enumerate(zip(gold, predicted, strict=True)):
        if len(truth) != len(found):
            raise ValueError(f"Row {index} has {len(truth)} gold tags, but {len(found)} predicted tags.")
        for side, tags in (("gold", truth), ("predicted", found)):
            if wrong := [tag for tag in tags if not _TAG.fullmatch(tag)]:
                raise ValueError(
                    f"Row {index} has the {side} tag {wrong[0]!r}, which is not IOB2: expected O, B-type or I-type. "
                    "The names of a model's tags are in its config.id2label."
                )


def _confusion(truth: list[list[Entity]], found: list[list[Entity]], types: list[str]) -> EntityConfusion:
    same = {kind: dict.fromkeys(types, 0) for kind in types}
    boundary, missed, spurious = (dict.fromkeys(types, 0) for _ in range(3))
    for row, others in zip(truth, found, strict=True):
        at = {(other.start, other.end): other for other in others}
        for entity in row:
            if match := at.get((entity.start, entity.end)):
                same[entity.tag][match.tag] += 1
            elif _overlaps(entity, others):
                boundary[entity.tag] += 1
            else:
                missed[entity.tag] += 1
        for other in others:
            spurious[other.tag] += not _overlaps(other, row)
    return EntityConfusion(same, boundary, missed, spurious)


def _overlaps(entity: Entity, others: list[Entity]) -> bool:
    return any(other.start < entity.end and entity.start < other.end for other in others)


def _cells(score: EntityScore) -> list[str]:
    return [*(f"{100 * value:.2f}" for value in (score.precision, score.recall, score.f1)), f"{score.support:,}"]
