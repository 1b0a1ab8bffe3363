"""What a student is trained towards.

Each objective reads some outputs of both sides and gives one value per row or token. It has a name (its line in the
log), a weight, the outputs that it needs, perhaps heads, and a count: of how many values its loss is the mean. The
count is known from the batch alone, before any forward pass, because the mean is taken over a whole optimizer step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ..modeling import losses
from ..modeling.distillation_model import hidden_state_head
from ..modeling.encoding import EncoderOutput, OutputRequest
from .batches import Batch


@dataclass(frozen=True)
class Objective(ABC):
    """One term of the loss."""

    name: ClassVar[str]
    weight: float

    @abstractmethod
    def student_request(self) -> OutputRequest:
        """The student's outputs that this objective reads."""

    def teacher_request(self) -> OutputRequest:
        """The teacher's outputs that this objective reads."""
        return self.student_request()

    def heads(self) -> dict[str, nn.Module]:
        """Modules to be trained beside the student (see `DistillationModel`)."""
        return {}

    @abstractmethod
    def count(self, batch: Batch) -> int | Tensor:
        """How many values `__call__` gives for this batch."""

    @abstractmethod
    def __call__(self, student: EncoderOutput, teacher: EncoderOutput, batch: Batch) -> Tensor:
        """The loss of each row or token, `[count]`, float32."""


# --- Embeddings: one vector per row -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class EmbeddingObjective(Objective):
    """Distance of pooled embeddings (Reimers & Gurevych 2020, arXiv:2004.09813, for `"mse"`)."""

    name = "embedding"
    loss: str
    pooler: str
    teacher_pooler: str
    student_size: int
    teacher_size: int

    def student_request(self):
        return OutputRequest(pooler=self.pooler)

    def teacher_request(self):
        return OutputRequest(pooler=self.teacher_pooler)

    def heads(self):
        if self.student_size == self.teacher_size:
            return {}
        return {"embedding": nn.Linear(self.student_size, self.teacher_size)}

    def count(self, batch):
        return batch["layout"].rows

    def __call__(self, student, teacher, batch):
        return _distance(self.loss)(student.projected.get("embedding", student.embedding), teacher.embedding)


@dataclass(frozen=True)
class SimilarityObjective(Objective):
    """Difference of the batch's similarity matrices. Widths may differ; no projector is used."""

    name = "similarity"
    pooler: str
    teacher_pooler: str

    def student_request(self):
        return OutputRequest(pooler=self.pooler)

    def teacher_request(self):
        return OutputRequest(pooler=self.teacher_pooler)

    def count(self, batch):
        return batch["layout"].rows

    def __call__(self, student, teacher, batch):
        return losses.similarity_matrix_error(student.embedding, teacher.embedding)


# --- Logits and labels: one value per row, or per token that has a label ----------------------------------------------


@dataclass(frozen=True)
class LogitsObjective(Objective):
    """Distance to the teacher's logits: at every row of a sequence head, at every labelled or aligned token of others.

    Without labels (a transfer set) a token head learns from every token.
    """

    name = "logits"
    loss: str
    temperature: float
    row_wise: bool

    def student_request(self):
        return OutputRequest(logits=True)

    def count(self, batch):
        return batch["layout"].rows if self.row_wise else _token_count(batch)

    def __call__(self, student, teacher, batch):
        sides = student.logits, teacher.logits
        if not self.row_wise:
            sides = _paired_tokens(*sides, batch)
        if self.loss == "kl":
            return losses.soft_cross_entropy(*sides, self.temperature)
        return losses.mean_squared_error(*sides) if self.loss == "mse" else losses.hard_cross_entropy(*sides)


@dataclass(frozen=True)
class LabelObjective(Objective):
    """The task's own loss on labelled rows or tokens."""

    name = "labels"
    row_wise: bool

    def student_request(self):
        return OutputRequest(logits=True)

    def teacher_request(self):
        return OutputRequest()

    def count(self, batch):
        return len(self._labels(batch)) if self.row_wise else (self._labels(batch) != losses.IGNORED_LABEL).sum()

    def __call__(self, student, teacher, batch):
        labels = self._labels(batch)
        if self.row_wise:
            return losses.task_loss(student.logits, labels)
        known = labels != losses.IGNORED_LABEL
        return losses.task_loss(student.logits[known], labels[known])

    def _labels(self, batch: Batch) -> Tensor:
        if "labels" not in batch:
            raise ValueError(
                "label_weight is above 0, but the data has no 'labels' column. Pass labels=... to tokenize(), or set "
                "label_weight=0."
            )
        return batch["labels"] if self.row_wise else batch["layout"].unpad(batch["labels"])


@dataclass(frozen=True)
class FeatureObjective(Objective):
    """Distance of what the two classifiers read: top hidden states of a tagger, pooled vectors of a sequence head.

    A student with a `ProjectedClassifier` is compared behind its projector, which so learns where the classifier will
    read (XtremeDistil, arXiv:2004.05686, eq. 4, without its activation); others, where widths differ, through a head.
    """

    name = "features"
    loss: str
    row_wise: bool
    student_size: int
    teacher_size: int

    def student_request(self):
        return OutputRequest(features=True)

    def heads(self):
        if self.student_size == self.teacher_size:
            return {}
        return {"features": nn.Linear(self.student_size, self.teacher_size)}

    def count(self, batch):
        return batch["layout"].rows if self.row_wise else _pair_count(batch)

    def __call__(self, student, teacher, batch):
        ours = student.projected.get("features", student.features)
        sides = (ours, teacher.features) if self.row_wise else _aligned(ours, teacher.features, batch)
        return _distance(self.loss)(*sides)


# --- Hidden states, attention maps and relations: one value per token -------------------------------------------------


@dataclass(frozen=True)
class HiddenStateObjective(Objective):
    """Distance of hidden states over a layer map, averaged over its pairs; at all tokens, or at each row's first."""

    name = "hidden"
    loss: str
    pairs: tuple[tuple[int, tuple[int, ...]], ...]
    first_only: bool
    student_size: int
    teacher_size: int

    def student_request(self):
        return OutputRequest(hidden_states=frozenset(student for student, _ in self.pairs))

    def teacher_request(self):
        return OutputRequest(hidden_states=frozenset(layer for _, group in self.pairs for layer in group))

    def heads(self):
        if self.student_size == self.teacher_size:
            return {}
        return {hidden_state_head(i): nn.Linear(self.student_size, self.teacher_size) for i, _ in self.pairs}

    def count(self, batch):
        return batch["layout"].rows if self.first_only else _pair_count(batch)

    def __call__(self, student, teacher, batch):
        total = 0
        for index, group in self.pairs:
            ours = student.projected.get(hidden_state_head(index), student.hidden_states[index])
            theirs = sum(teacher.hidden_states[layer] for layer in group) / len(group)
            sides = _first_tokens(ours, theirs, batch) if self.first_only else _aligned(ours, theirs, batch)
            total = total + _distance(self.loss)(*sides)
        return total / len(self.pairs)


@dataclass(frozen=True)
class AttentionObjective(Objective):
    """Difference of attention maps over a layer map, averaged over its pairs (TinyBERT, arXiv:1909.10351, eq. 7)."""

    name = "attention"
    loss: str
    pairs: tuple[tuple[int, tuple[int, ...]], ...]

    def student_request(self):
        return OutputRequest(attentions=frozenset(student for student, _ in self.pairs))

    def teacher_request(self):
        return OutputRequest(attentions=frozenset(layer for _, group in self.pairs for layer in group))

    def count(self, batch):
        return batch["layout"].tokens

    def __call__(self, student, teacher, batch):
        total = 0
        for index, group in self.pairs:
            theirs = sum(teacher.attentions[layer] for layer in group) / len(group)
            total = total + losses.attention_error(student.attentions[index], theirs, batch["layout"], self.loss)
        return total / len(self.pairs)


@dataclass(frozen=True)
class RelationObjective(Objective):
    """MiniLMv2's self-attention relations (arXiv:2012.15828): query-query, key-key and value-value, summed."""

    name = "relations"
    pairs: tuple[tuple[int, int], ...]
    relation_heads: int

    def student_request(self):
        return OutputRequest(projections=frozenset(student for student, _ in self.pairs))

    def teacher_request(self):
        return OutputRequest(projections=frozenset(teacher for _, teacher in self.pairs))

    def count(self, batch):
        return batch["layout"].tokens

    def __call__(self, student, teacher, batch):
        total = 0
        for ours, theirs in self.pairs:
            for role in ("queries", "keys", "values"):
                sides = getattr(student, role)[ours], getattr(teacher, role)[theirs]
                total = total + losses.relation_divergence(*sides, batch["layout"], self.relation_heads)
        return total / len(self.pairs)


def _distance(loss: str) -> Callable[[Tensor, Tensor], Tensor]:
    return losses.cosine_distance if loss == "cosine" else losses.mean_squared_error


# --- Which student token goes with which of the teacher's -------------------------------------------------------------


def _first_tokens(student: Tensor, teacher: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    return batch["layout"].first(student), batch.get("teacher_layout", batch["layout"]).first(teacher)


def _aligned(student: Tensor, teacher: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Pair token vectors: the same tokens, or the first pieces of the same words under two tokenizers."""
    if "alignment" not in batch:
        return student, teacher
    student_index, teacher_index = batch["alignment"]
    return student[student_index], teacher[teacher_index]


def _pair_count(batch: Batch) -> int:
    return len(batch["alignment"][0]) if "alignment" in batch else batch["layout"].tokens


def _labelled(batch: Batch) -> Tensor | None:
    """Which of the student's tokens carry a label; None where all take part."""
    if "labels" not in batch or "alignment" in batch or batch["labels"].dim() == 1:
        return None
    return batch["layout"].unpad(batch["labels"]) != losses.IGNORED_LABEL


def _paired_tokens(student: Tensor, teacher: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    student, teacher = _aligned(student, teacher, batch)
    known = _labelled(batch)
    return (student, teacher) if known is None else (student[known], teacher[known])


def _token_count(batch: Batch) -> int | Tensor:
    known = _labelled(batch)
    return _pair_count(batch) if known is None else known.sum()
