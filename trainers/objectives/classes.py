"""Objectives on logits, labels and what a classifier reads: per row, or per token that has a label."""

from torch import Tensor, nn

from ...collators import Batch, Labelled
from ...modeling import losses
from ...modeling.encoding import EncoderOutput, OutputRequest
from .base import MULTI_LABEL, REGRESSION, Objective, aligned_tokens, distance, pair_count


class LogitsObjective(Objective):
    """Distance to the teacher's logits: at every row of a sequence head, at every labelled or aligned token of others.

    From a row without labels (of a transfer set) a token head learns at every token.

    Args:
        weight: in the loss.
        loss, temperature: as in the arguments. A regression head is always compared by squared error: a softmax over
            one number is always 1.
        row_wise: whether the head gives one output per row rather than per token.
        problem: what the head's outputs are (see `Dimensions`).
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
    """The student's tokens that take part: those with a label, and all of a row without any; None for all."""
    return None if batch.labelled is None or batch.alignment is not None else batch.labelled.compared


class LabelObjective(Objective):
    """The task's own loss on labelled rows or tokens.

    Args:
        weight: in the loss.
        row_wise: whether the head gives one output per row rather than per token.
        problem: what the head's outputs are (see `Dimensions`).
        smoothing: the share of a label that all classes get alike, 0 to 1; of heads that give each row one class.
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
    """Distance of what the two classifiers read: top hidden states of a tagger, pooled vectors of a sequence head.

    A student with a `ProjectedClassifier` is compared behind its projector, which so learns where the classifier will
    read (XtremeDistil, arXiv:2004.05686, eq. 4, without its activation); others, where widths differ, behind this
    objective's.

    Args:
        weight: in the loss.
        loss: the distance, as in the arguments.
        projector: maps the student's vectors into the teacher's width.
        row_wise: whether the classifier reads one vector per row rather than per token.
    """

    name = "features"
    description = "distance of what the classifiers read"
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
