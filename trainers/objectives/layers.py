"""Objectives inside the encoder: hidden states, attention maps and relations, one value per token."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from ...collators import Batch
from ...modeling import hidden_state_head, losses
from ...modeling.encoding import EncoderOutput, OutputRequest, TokenLayout
from .base import Objective, aligned_tokens, distance, pair_count, projectors

LAYER_MAPS = ("top", "uniform", "last", "average", "mix")

# For each pair, the student's layer, and those of the teacher's that are averaged.
LayerPairs = list[tuple[int, tuple[int, ...]]]


@dataclass(frozen=True)
class LayersObjective(Objective):
    """What compares an output of single layers over a layer map.

    Attributes:
        output: which of the fields of `OutputRequest` names the layers.
        pairs: of layers, which count as `output` counts them.
    """

    output: ClassVar[str]
    pairs: LayerPairs

    def student_request(self):
        return OutputRequest(**{self.output: frozenset(student for student, _ in self.pairs)})

    def teacher_request(self):
        return OutputRequest(**{self.output: frozenset(layer for _, group in self.pairs for layer in group)})

    def count(self, batch):
        return batch["layout"].tokens


@dataclass(frozen=True)
class HiddenPairsObjective(LayersObjective):
    """What compares hidden states over a layer map, through a projector for each of the student's if widths differ."""

    output = "hidden_states"
    student_size: int
    teacher_size: int

    def heads(self):
        names = [hidden_state_head(index) for index, _ in self.pairs]
        return projectors(self.student_size, self.teacher_size, *names)

    def count(self, batch):
        return pair_count(batch)

    def states(self, student: EncoderOutput, teacher: EncoderOutput) -> Iterator[tuple[Tensor, Tensor]]:
        """Each pair's states, `[tokens, teacher_size]` of either side's tokens."""
        for index, group in self.pairs:
            ours = student.projected.get(hidden_state_head(index), student.hidden_states[index])
            yield ours, sum(teacher.hidden_states[layer] for layer in group) / len(group)


@dataclass(frozen=True)
class HiddenStateObjective(HiddenPairsObjective):
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
        return batch["layout"].rows if self.row_wise else super().count(batch)

    def __call__(self, student, teacher, batch):
        pairs = (self._compared(*states, batch) for states in self.states(student, teacher))
        values = [distance(self.loss)(*vectors) for vectors in pairs]
        return sum(values) / len(values)

    def _compared(self, student: Tensor, teacher: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The vectors of both sides, `[count, teacher_size]` each, of the states of their tokens."""
        if not self.row_wise:
            return aligned_tokens(student, teacher, batch)
        of_rows = TokenLayout.first if self.tokens == "first" else TokenLayout.mean
        return of_rows(batch["layout"], student), of_rows(batch.get("teacher_layout", batch["layout"]), teacher)


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


class LayerWeights(nn.Module):
    """Weights of that many layers (Peters et al. 2018, arXiv:1802.05365, eq. 1): above 0, 1 in sum, equal at first."""

    def __init__(self, layers: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(layers))

    def forward(self, states: Tensor) -> Tensor:
        """`[layers]`, float32, whatever the states: heads are called on what the student makes."""
        return self.logits.float().softmax(0)


class LayerMix(nn.Module):
    """Averages the states of all layers, and maps them into the width of what they are compared with, if it differs."""

    def __init__(self, layers: int, size: int, out_size: int):
        super().__init__()
        self.weights = LayerWeights(layers)
        self.projector = nn.Identity() if size == out_size else nn.Linear(size, out_size)

    def forward(self, states: Tensor) -> Tensor:
        """`[tokens, layers, size]` -> `[tokens, out_size]`."""
        return self.projector(torch.einsum("tlh,l->th", states, self.weights(states).to(states.dtype)))


@dataclass(frozen=True)
class AttentionObjective(LayersObjective):
    """Difference of attention maps over a layer map, averaged over its pairs (TinyBERT, arXiv:1909.10351, eq. 7)."""

    name = "attention"
    description = "difference of attention maps"
    citation = "jiao2020tinybert"
    output = "attentions"
    loss: str

    def __call__(self, student, teacher, batch):
        total = 0
        for index, group in self.pairs:
            theirs = sum(teacher.attentions[layer] for layer in group) / len(group)
            total = total + losses.attention_error(student.attentions[index], theirs, batch["layout"], self.loss)
        return total / len(self.pairs)


@dataclass(frozen=True)
class RelationObjective(LayersObjective):
    """MiniLMv2's self-attention relations (arXiv:2012.15828): query-query, key-key and value-value, summed."""

    name = "relations"
    description = "divergence of self-attention relations"
    citation = "wang2021minilmv2"
    output = "projections"
    relation_heads: int

    def __call__(self, student, teacher, batch):
        total = 0
        for ours, (theirs,) in self.pairs:
            for role in ("queries", "keys", "values"):
                sides = getattr(student, role)[ours], getattr(teacher, role)[theirs]
                total = total + losses.relation_divergence(*sides, batch["layout"], self.relation_heads)
        return total / len(self.pairs)


def layer_pairs(layer_map: str, student_depth: int, teacher_depth: int) -> LayerPairs:
    """Pair hidden states of a student with those of its teacher.

    Args:
        layer_map: `"top"`, the student's states with as many of the teacher's topmost (XtremeDistil); `"uniform"`,
            evenly spread from the embedding output to the top, a half counting as the layer above; `"last"`, the top
            ones only; `"average"`, every student layer with the mean of its share of the teacher's layers; `"mix"`, all
            states with all; or explicit pairs `"student:teacher,..."`, counted as transformers counts hidden states (0
            is the embedding layer's output), e.g. `"1:2,2:4,3:6"`.
        student_depth: number of the student's layers.
        teacher_depth: number of the teacher's layers.

    Returns:
        `(student index, teacher indices to average)` in the order of the student's layers.

    Raises:
        ValueError: a student deeper than its teacher under `"top"` or `"average"`, an unknown map, or an index that
            does not exist.
    """
    if ":" in layer_map:
        return _explicit_pairs(layer_map, student_depth, teacher_depth)
    if layer_map not in LAYER_MAPS:
        raise ValueError(
            f"Unknown layer map {layer_map!r}. Choose one of {', '.join(LAYER_MAPS)}, or pairs such as '1:2,2:4'."
        )
    if layer_map == "last":
        return [(student_depth, (teacher_depth,))]
    if layer_map == "mix":
        return [(s, tuple(range(teacher_depth + 1))) for s in range(student_depth + 1)]
    if layer_map == "uniform":
        # Halves go up, always: `round` takes them to even numbers, and spreads 12 layers unevenly over 6.
        states = range(student_depth + 1)
        return [(s, ((2 * s * teacher_depth + student_depth) // (2 * student_depth),)) for s in states]
    if student_depth > teacher_depth:
        raise ValueError(
            f"layer_map={layer_map!r} needs a student no deeper than its teacher, but it has {student_depth} layers "
            f"and the teacher {teacher_depth}. Use 'uniform' or 'last'."
        )
    if layer_map == "top":
        return [(s, (s + teacher_depth - student_depth,)) for s in range(student_depth + 1)]
    bounds = [s * teacher_depth // student_depth for s in range(student_depth + 1)]
    groups = [tuple(range(low + 1, high + 1)) for low, high in pairwise(bounds)]
    return [(0, (0,))] + [(s + 1, group) for s, group in enumerate(groups)]


def _explicit_pairs(text: str, student_depth: int, teacher_depth: int) -> LayerPairs:
    try:
        pairs = [tuple(int(side) for side in pair.split(":")) for pair in text.split(",")]
        pairs = [(student, (teacher,)) for student, teacher in pairs]
    except ValueError:
        raise ValueError(
            f"Can't read the layer map {text!r}: write pairs such as '1:2,2:4' (student:teacher)."
        ) from None
    for student, (teacher,) in pairs:
        if not (0 <= student <= student_depth and 0 <= teacher <= teacher_depth):
            raise ValueError(
                f"The layer map {text!r} pairs {student}:{teacher}, but hidden states run from 0 to {student_depth} "
                f"in the student and from 0 to {teacher_depth} in the teacher."
            )
    if len({student for student, _ in pairs}) < len(pairs):
        raise ValueError(f"The layer map {text!r} names a student state twice.")
    return sorted(pairs)
