"""Scores of a finished tagger or classifier, for scripts."""

from collections.abc import Mapping

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...data.tasks import Task
from .students import TaskData


def score_task(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    split: str | None = None,
    *,
    max_length: int = 128,
    metric: str | None = None,
) -> Mapping[str, float]:
    """Score the predictions of a tagger or classifier on a split of a task.

    Args:
        model: with the task's classes in their order.
        tokenizer: the one that it was trained with.
        task: see `read_task`.
        split: default: `test`, or `dev` where there is none.
        max_length: tokens that the model reads at once: longer rows to tag are read in windows, longer texts are cut.
        metric: of classification: a GLUE task (`mrpc`), whose metric is taken, or a module of `evaluate` by its name or
            folder. Default: accuracy, macro F1 and Matthews correlation.

    Returns:
        Name -> score, the most important first: of entities F1, and the F1 of each of several languages; of other tags
        and of classes what `metric` measures, of a regression Pearson's and Spearman's correlation; and, but for a
        regression, ECE, the expected calibration error in [0, 1].
    """
    data = TaskData(task, tokenizer, max_length, metric)
    return data.judge(model, split or ("test" if "test" in task.splits else "dev")).quality.scores
