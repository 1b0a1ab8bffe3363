"""Strict entity F1 as a metric for `evaluate`.

`evaluate.load` parses a script's imports line by line, so each import must be on one line.
"""

from collections.abc import Sequence

import datasets
import evaluate

from retort.evaluation.tasks import entity_scores


class EntityF1(evaluate.Metric):
    """`compute(predictions=tags, references=tags, languages=None)`: see `entity_scores`."""

    def _info(self) -> evaluate.MetricInfo:
        tags = datasets.List(datasets.Value("string"))
        return evaluate.MetricInfo(
            description="Precision, recall and F1 of entities, as by seqeval in strict mode with IOB2.",
            citation="",
            inputs_description="One list of IOB2 tags per row on each side; optionally languages=, one per row.",
            features=datasets.Features({"predictions": tags, "references": tags}),
        )

    def _compute(
        self,
        predictions: Sequence[Sequence[str]],
        references: Sequence[Sequence[str]],
        languages: Sequence[str] | None = None,
    ) -> dict[str, float]:
        scores = entity_scores(references, predictions, languages)
        result = {
            "precision": scores.micro.precision,
            "recall": scores.micro.recall,
            "f1": scores.micro.f1,
            "macro_f1": scores.macro.f1,
        }
        result |= {f"f1_{kind}": score.f1 for kind, score in scores.by_type.items()}
        if scores.language_mean:
            result["language_mean_f1"] = scores.language_mean.f1
        return result
