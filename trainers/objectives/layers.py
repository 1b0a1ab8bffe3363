"""Objectives inside the encoder: hidden states, attention maps and relations, one value per token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from ...modeling import hidden_state_head, losses
from ...modeling.encoding import EncoderOutput, OutputRequest
from .base import Objective, distance
from .layer_mix import LayerMix, LayerWeights
from .pairing import aligned_tokens, first_tokens, mean_tokens, pair_count


@dataclass(frozen=True)
class LayerPairsObjective(Objective):
    """What compares hidden states over a layer map, through a projector for each of the student's if widths differ."""

    pairs: tuple[tuple[int, tuple[int, ...]], ...]
    student_size: int
    teacher_size: int

    def student_request(self):
        return OutputRequest(hidden_states=frozenset(student for student, _ in self.pairs))

    def teacher_request(self):
        return OutputRequest(hidden_states=frozenset(layer for _, group in self.pairs for layer in group))

    def heads(self) -> dict[str, nn.Module]:
        if self.student_size == self.teacher_size:
            return {}
        return {hidden_state_head(i): nn.Linear(self.student_size, self.teacher_size) for i, _ in self.pairs}

    def states(self, student: EncoderOutput, teacher: EncoderOutput) -> Iterator[tuple[Tensor, Tensor]]:
        """Each pair's states, `[tokens, teacher_size]` of either side's tokens."""
        for index, group in self.pairs:
            ours = student.projected.get(hidden_state_head(index), student.hidden_states[index])
            yield ours, sum(teacher.hidden_states[layer] for layer in group) / len(group)


@dataclass(frozen=True)
class HiddenStateObjective(LayerPairsObjective):
    """Distance of hidden states, averaged over the pairs of layers.

    Attributes:
        loss: the distance.
        tokens: `"all"`, or of each row the `"first"` or the `"mean"` of all.
    """

    name = "hidden"
    description = "distance of hidden states"
    citation = "jiao2020tinybert"
    loss: str
    tokens: str

    @property
    def row_wise(self) -> bool:
        """Whether there is one value for each row, rather than for each token."""
        return self.tokens != "all"

    def count(self, batch):
        return batch["layout"].rows if self.row_wise else pair_count(batch)

    def __call__(self, student, teacher, batch):
        align = {"all": aligned_tokens, "first": first_tokens, "mean": mean_tokens}[self.tokens]
        values = [distance(self.loss)(*align(*states, batch)) for states in self.states(student, teacher)]
        return sum(values) / len(values)


@dataclass(frozen=True)
class MixedStateObjective(HiddenStateObjective):
    """Distance of two weighted averages, of all of the student's states and of all of the teacher's.

    The weights of both are learnt, and find the layers that are alike: Kolesnikova et al. 2022 (arXiv:2205.02340) call
    this a weighted average by layers or, of the means of tokens, to pool and project.
    """

    def heads(self):
        _, theirs = self.pairs[0]
        mix = LayerMix(len(self.pairs), self.student_size, self.teacher_size)
        return {"mixed_state": mix, "teacher_layers": LayerWeights(len(theirs))}

    def states(self, student, teacher):
        weights = student.projected["teacher_layers"]
        theirs = sum(weight * teacher.hidden_states[layer] for layer, weight in enumerate(weights))
        yield student.projected["mixed_state"], theirs


@dataclass(frozen=True)
class AttentionObjective(Objective):
    """Difference of attention maps over a layer map, averaged over its pairs (TinyBERT, arXiv:1909.10351, eq. 7)."""

    name = "attention"
    description = "difference of attention maps"
    citation = "jiao2020tinybert"
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
    description = "divergence of self-attention relations"
    citation = "wang2021minilmv2"
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
