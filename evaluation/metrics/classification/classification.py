"""Accuracy, F1 and Matthews correlation as a metric for `evaluate`.

`evaluate.load` parses a script's imports line by line, so each import must be on one line.
"""

from collections.abc import Sequence

import datasets
import evaluate

from retort.evaluation.tasks import classification_scores


class Classification(evaluate.Metric):
    """`compute(predictions=classes, references=classes)`: see `classification_scores`."""

    def _info(self) -> evaluate.MetricInfo:
        # Not an integer type: `datasets` would truncate probabilities to integers.
        number = datasets.Value("float64")
        return evaluate.MetricInfo(
            description="Accuracy, macro F1 and Matthews correlation coefficient.",
            citation="",
            inputs_description="One class id per row on each side.",
            features=datasets.Features({"predictions": number, "references": number}),
        )

    def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        scores = classification_scores(references, predictions)
        return {"accuracy": scores.accuracy, "macro_f1": scores.macro_f1, "matthews_correlation": scores.mcc}
