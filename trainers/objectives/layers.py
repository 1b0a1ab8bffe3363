"""Objectives on hidden states, attention maps and relations, with one value per token."""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from ...collators import Batch
from ...modeling import losses
from ...modeling.encoding import EncoderOutput, OutputRequest, TokenLayout
from .base import Objective, aligned_tokens, distance, pair_count
from .projector import projector

LAYER_MAPS = ("top", "uniform", "last", "average", "mix")

# (student layer, teacher layers that are averaged) of each pair.
LayerPairs = list[tuple[int, tuple[int, ...]]]


class LayersObjective(Objective):
    """Base class of objectives that compare outputs of layers over a layer map.

    Args:
        pairs: pairs of layers, counted as in the field `output` of `OutputRequest`.

    Attributes:
        output: the field of `OutputRequest` for the layers.
    """

    output: ClassVar[str]

    def __init__(self, weight: float, pairs: LayerPairs):
        super().__init__(weight)
        self.pairs = pairs

    def student_request(self):
        return OutputRequest(**{self.output: frozenset(student for student, _ in self.pairs)})

    def teacher_request(self):
        return OutputRequest(**{self.output: frozenset(layer for _, group in self.pairs for layer in group)})

    def count(self, batch):
        return batch.layout.tokens


class HiddenPairsObjective(LayersObjective):
    """Base class of objectives that compare hidden states over a layer map, with a projector per pair if widths differ.

    Args:
        student_size, teacher_size: widths of the hidden states.
        kind: kind of the projectors (see `projector`).
    """

    output = "hidden_states"

    def __init__(self, weight, pairs, student_size: int, teacher_size: int, kind: str):
        super().__init__(weight, pairs)
        self.projectors = nn.ModuleList(projector(student_size, teacher_size, kind) for _ in pairs)

    def forward(self, student: EncoderOutput) -> list[Tensor]:
        """The student's states of each pair, `[tokens, teacher_size]`."""
        return [
            project(student.hidden_states[index])
            for (index, _), project in zip(self.pairs, self.projectors, strict=True)
        ]

    def teacher_states(self, teacher: EncoderOutput) -> list[Tensor]:
        """The teacher's states of each pair, `[tokens, teacher_size]`."""
        return [_mean([teacher.hidden_states[layer] for layer in group]) for _, group in self.pairs]

    def count(self, batch):
        return pair_count(batch)


@dataclass(frozen=True)
class StateDistance:
    """Distance between the hidden states of a batch; see `hidden_loss` and `hidden_tokens` in the arguments."""

    loss: str
    tokens: str

    @property
    def row_wise(self) -> bool:
        """Whether there is one value per row rather than per token."""
        return self.tokens != "all"

    def count(self, batch: Batch) -> int:
        """Number of values for a batch."""
        return batch.layout.rows if self.row_wise else pair_count(batch)

    def __call__(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """`[count]`, the distances of the tokens' states, `[tokens, teacher_size]`."""
        if not self.row_wise:
            return distance(self.loss)(*aligned_tokens(student, teacher, batch))
        of_rows = TokenLayout.first if self.tokens == "first" else TokenLayout.mean
        _, teacher_layout = batch.of_teacher
        return distance(self.loss)(of_rows(batch.layout, student), of_rows(teacher_layout, teacher))


class HiddenStateObjective(HiddenPairsObjective):
    """Distance of hidden states, averaged over the pairs of layers.

    Args: see `HiddenPairsObjective`; `compare` is the distance.
    """

    name = "hidden"
    description = "distance of hidden states"
    citation = "jiao2020tinybert"

    def __init__(self, weight, pairs, student_size, teacher_size, kind, compare: StateDistance):
        super().__init__(weight, pairs, student_size, teacher_size, kind)
        self.compare, self.row_wise = compare, compare.row_wise

    def count(self, batch):
        return self.compare.count(batch)

    def values(self, ours, teacher, batch):
        pairs = zip(ours, self.teacher_states(teacher), strict=True)
        return sum(self.compare(*states, batch) for states in pairs) / len(ours)


class MixedStateObjective(LayersObjective):
    """Distance between two weighted averages of hidden states: one over all layers of each model.

    The weights of both are learnt. Kolesnikova et al. 2022 (arXiv:2205.02340) call this "weighted average by layers"
    or, with means of tokens, "pool and project".

    Args: see `HiddenStateObjective`; `pairs` pair each student state with all teacher states.
    """

    name = HiddenStateObjective.name
    description = HiddenStateObjective.description
    citation = "kolesnikova2022vocabulary"
    output = "hidden_states"

    def __init__(self, weight, pairs, student_size, teacher_size, kind, compare: StateDistance):
        super().__init__(weight, pairs)
        _, theirs = pairs[0]
        self.weights, self.teacher_weights = LayerWeights(len(pairs)), LayerWeights(len(theirs))
        self.projector = projector(student_size, teacher_size, kind)
        self.compare, self.row_wise = compare, compare.row_wise

    def forward(self, student: EncoderOutput) -> tuple[Tensor, Tensor]:
        """The student's average, `[tokens, teacher_size]`, and the weights of the teacher's states, `[layers]`."""
        states = torch.stack([student.hidden_states[index] for index, _ in self.pairs], dim=1)
        mixed = torch.einsum("tlh,l->th", states.float(), self.weights())
        return self.projector(mixed), self.teacher_weights()

    def count(self, batch):
        return self.compare.count(batch)

    def values(self, ours, teacher, batch):
        mixed, weights = ours
        theirs = sum(weight * teacher.hidden_states[layer].float() for layer, weight in enumerate(weights))
        return self.compare(mixed, theirs, batch)


class LayerWeights(nn.Module):
    """Learnt weights of layers (Peters et al. 2018, arXiv:1802.05365, eq. 1): positive, with the sum 1, equal at
    first."""

    def __init__(self, layers: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(layers))

    def forward(self) -> Tensor:
        """`[layers]`, float32."""
        return self.logits.float().softmax(0)


class AttentionObjective(LayersObjective):
    """Difference of attention maps over a layer map, averaged over its pairs (TinyBERT, arXiv:1909.10351, eq. 7).

    Args: see `LayersObjective`; for `loss` see `attention_loss` in `DistillTrainingArguments`.
    """

    name = "attention"
    description = "difference of attention maps"
    citation = "jiao2020tinybert"
    output = "attentions"

    def __init__(self, weight, pairs, loss: str):
        super().__init__(weight, pairs)
        self.loss = loss

    def forward(self, student: EncoderOutput) -> list[Tensor]:
        """The student's maps of each pair, `[rows, heads, width, width]`."""
        return [student.attentions[index] for index, _ in self.pairs]

    def values(self, ours, teacher, batch):
        total = 0
        for maps, (_, group) in zip(ours, self.pairs, strict=True):
            theirs = _mean([teacher.attentions[layer] for layer in group])
            total = total + losses.attention_error(maps, theirs, batch.layout, self.loss)
        return total / len(self.pairs)


class RelationObjective(LayersObjective):
    """MiniLMv2's self-attention relations (arXiv:2012.15828): query-query, key-key and value-value, summed.

    Args:
        relation_heads: number of heads into which the queries, keys and values of both models are split.
    """

    name = "relations"
    description = "divergence of self-attention relations"
    citation = "wang2021minilmv2"
    output = "projections"

    def __init__(self, weight, pairs, relation_heads: int):
        super().__init__(weight, pairs)
        self.relation_heads = relation_heads

    def forward(self, student: EncoderOutput) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The student's queries, keys and values of each pair, `[tokens, heads * head_size]`."""
        return [_projections(student, index) for index, _ in self.pairs]

    def values(self, ours, teacher, batch):
        total = 0
        for mine, (_, (layer,)) in zip(ours, self.pairs, strict=True):
            for sides in zip(mine, _projections(teacher, layer), strict=True):
                total = total + losses.relation_divergence(*sides, batch.layout, self.relation_heads)
        return total / len(self.pairs)


def _mean(outputs: list[Tensor]) -> Tensor:
    """Mean of the outputs of layers, in float32. A single output is returned unchanged."""
    return outputs[0] if len(outputs) == 1 else torch.stack([each.float() for each in outputs]).mean(0)


def _projections(output: EncoderOutput, layer: int) -> tuple[Tensor, Tensor, Tensor]:
    return output.queries[layer], output.keys[layer], output.values[layer]


def layer_pairs(layer_map: str, student_depth: int, teacher_depth: int) -> LayerPairs:
    """Pair hidden states of a student with those of its teacher.

    Args:
        layer_map: `"top"` pairs the student's states with the teacher's topmost states (XtremeDistil); `"uniform"`
            spreads them evenly from the embedding output to the top, rounding halves up; `"last"` pairs the top states
            only; `"average"` pairs every student layer with the mean of a group of teacher layers; `"mix"` pairs every
            student state with all teacher states. Explicit pairs are written as `"student:teacher,..."`, e.g.
            `"1:2,2:4,3:6"`, counted as the hidden states of transformers (0 is the embedding layer's output).
        student_depth: number of student layers.
        teacher_depth: number of teacher layers.

    Returns:
        `(student index, teacher indices to average)` in the order of the student's layers.

    Raises:
        ValueError: the student is deeper than its teacher with `"top"` or `"average"`, the map is unknown, or an index
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
        # Always round halves up. `round` rounds them to even numbers, which would spread layers unevenly.
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
