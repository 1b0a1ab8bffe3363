"""Objectives on logits, labels and a classifier's inputs: per row, or per labelled token."""

from torch import Tensor, nn

from ...collators import Batch, Labelled
from ...modeling import losses
from ...modeling.encoding import EncoderOutput, OutputRequest
from .base import MULTI_LABEL, REGRESSION, Objective, aligned_tokens, distance, pair_count


class LogitsObjective(Objective):
    """Distance between the logits of student and teacher: per row for a sequence head, per token otherwise.

    Token heads are compared at labelled or aligned tokens, and at all tokens of a row without labels (transfer set).

    Args:
        loss, temperature: see `logits_loss` and `temperature` in `DistillTrainingArguments`. A regression head always
            uses the squared error, since a softmax over one number is always 1.
        row_wise: whether the head has one output per row rather than per token.
        problem: kind of the head's outputs (see `Dimensions`).
    """

    name = "logits"
    description = "distance of logits"
    citation = "hinton2015distilling"
    reads = OutputRequest(logits=True)

    def __init__(self, weight: float, loss: str, temperature: float, *, row_wise: bool, problem: str):
        super().__init__(weight)
        self.loss, self.temperature = loss, temperature
        self.row_wise, self.problem = row_wise, problem

    def forward(self, student: EncoderOutput) -> Tensor:
        """`[rows, classes]` or `[tokens, classes]`, the logits."""
        return student.logits

    def count(self, batch):
        if self.row_wise:
            return batch.layout.rows
        compared = compared_tokens(batch)
        return pair_count(batch) if compared is None else len(compared)

    def values(self, ours, teacher, batch):
        sides = ours, teacher.logits
        if not self.row_wise:
            sides, compared = aligned_tokens(*sides, batch), compared_tokens(batch)
            sides = sides if compared is None else [logits[compared] for logits in sides]
        if self.loss == "mse" or self.problem == REGRESSION:
            return losses.mean_squared_error(*sides)
        several = self.problem == MULTI_LABEL
        if self.loss == "kl":
            return (losses.binary_divergence if several else losses.soft_cross_entropy)(*sides, self.temperature)
        ours, theirs = sides
        return losses.binary_cross_entropy(ours, theirs > 0) if several else losses.hard_cross_entropy(ours, theirs)


def compared_tokens(batch: Batch) -> Tensor | None:
    """The student's tokens that are compared: labelled tokens, and all tokens of rows without labels. None for all."""
    return None if batch.labelled is None or batch.alignment is not None else batch.labelled.compared


class LabelObjective(Objective):
    """The task's own loss on labelled rows or tokens.

    Args:
        row_wise, problem: see `LogitsObjective`.
        smoothing: label smoothing, 0 to 1, for heads with one class per row or token.
    """

    name = "labels"
    description = "task labels"
    reads = OutputRequest(logits=True)
    reads_teacher = False

    def __init__(self, weight: float, *, row_wise: bool, problem: str, smoothing: float = 0.0):
        super().__init__(weight)
        self.row_wise, self.problem, self.smoothing = row_wise, problem, smoothing

    def forward(self, student: EncoderOutput) -> Tensor:
        """`[rows, classes]` or `[tokens, classes]`, the logits."""
        return student.logits

    def count(self, batch):
        return len(self._labels(batch).places)

    def values(self, ours, teacher, batch):
        found = self._labels(batch)
        logits = ours[found.places]
        if self.problem == MULTI_LABEL:
            return losses.binary_cross_entropy(logits, found.labels)
        return losses.task_loss(logits, found.labels, self.smoothing)

    def _labels(self, batch: Batch) -> Labelled:
        if batch.labelled is None:
            raise ValueError(
                "label_weight is above 0, but the data has no 'labels' column. Pass labels=... to tokenize(), or set "
                "label_weight=0."
            )
        return batch.labelled


class FeatureObjective(Objective):
    """Distance between the inputs of the two classifiers: a tagger's top hidden states, or pooled vectors.

    For a student with a `ProjectedClassifier`, the output of its projector is compared (XtremeDistil, arXiv:2004.05686,
    eq. 4, without its activation). Other students use this objective's projector if the widths differ.

    Args:
        loss: see `hidden_loss` in `DistillTrainingArguments`.
        projector: maps the student's vectors to the teacher's width.
        row_wise: whether the classifier has one input vector per row rather than per token.
    """

    name = "features"
    description = "distance of the classifiers' inputs"
    reads = OutputRequest(features=True)

    def __init__(self, weight: float, loss: str, projector: nn.Module, *, row_wise: bool):
        super().__init__(weight)
        self.loss, self.projector, self.row_wise = loss, projector, row_wise

    def forward(self, student: EncoderOutput) -> Tensor:
        """`[rows, teacher's features]` or `[tokens, teacher's features]`."""
        return self.projector(student.features)

    def count(self, batch):
        return batch.layout.rows if self.row_wise else pair_count(batch)

    def values(self, ours, teacher, batch):
        sides = (ours, teacher.features) if self.row_wise else aligned_tokens(ours, teacher.features, batch)
        return distance(self.loss)(*sides)
