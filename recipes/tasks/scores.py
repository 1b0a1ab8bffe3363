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
        model: a model with the task's classes in their order.
        tokenizer: the model's tokenizer.
        task: see `read_task`.
        split: default: `test`, or `dev` if there is none.
        max_length: maximum number of tokens of an input. Longer rows are split into windows for tagging; longer texts
            are truncated for classification.
        metric: for classification: a GLUE task (`mrpc`), for its metric, or the name or folder of a module of
            `evaluate`. Default: accuracy, macro F1 and Matthews correlation.

    Returns:
        Name -> score, the most important first. For entities: F1, also by language if there are several. For other tags
        and for classes: the scores of `metric`. For a regression: Pearson's and Spearman's correlation. A language
        whose gold or predicted numbers are all the same has no correlation, and is left out. Except for a regression,
        also ECE, the expected calibration error in [0, 1].
    """
    data = TaskData(task, tokenizer, max_length, metric)
    return data.judge(model, split or ("test" if "test" in task.splits else "dev")).quality.scores
