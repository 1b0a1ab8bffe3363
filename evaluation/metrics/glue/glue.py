"""The published metric of each GLUE task as a metric for `evaluate`.

`evaluate.load` parses a script's imports line by line, so each import must be on one line.
"""

from collections.abc import Sequence

import datasets
import evaluate

from retort.evaluation.tasks import binary_f1, classification_scores, regression_scores

MEASURES = {
    "cola": ("matthews_correlation",),
    "sst2": ("accuracy",),
    "mrpc": ("accuracy", "f1"),
    "qqp": ("accuracy", "f1"),
    "stsb": ("pearson", "spearmanr"),
    "mnli": ("accuracy",),
    "qnli": ("accuracy",),
    "rte": ("accuracy",),
    "wnli": ("accuracy",),
}


class Glue(evaluate.Metric):
    """`Glue("mrpc").compute(predictions=classes, references=classes)`: the task's measures by name.

    Wang et al. 2019, arXiv:1804.07461, table 1; the names are those of `evaluate`'s own GLUE metric.
    """

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in MEASURES:
            raise ValueError(f"GLUE has the tasks {', '.join(MEASURES)}, but got config_name={self.config_name!r}.")
        # Not an integer type: `datasets` would truncate probabilities to integers.
        number = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=f"GLUE, {self.config_name}: {' and '.join(MEASURES[self.config_name])}.",
            citation="",
            inputs_description="One class id per row on each side; one score per row for stsb.",
            features=datasets.Features({"predictions": number, "references": number}),
        )

    def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        if self.config_name == "stsb":
            scores = regression_scores(references, predictions)
            return {"pearson": scores.pearson, "spearmanr": scores.spearman}
        scores = classification_scores(references, predictions)
        measured = {"accuracy": scores.accuracy, "matthews_correlation": scores.mcc}
        if "f1" in MEASURES[self.config_name]:
            measured["f1"] = binary_f1(references, predictions)
        return {measure: measured[measure] for measure in MEASURES[self.config_name]}
