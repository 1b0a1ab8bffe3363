"""From arguments and two models to the objectives of a run, with all that does not fit refused up front."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from transformers import PreTrainedConfig

from ..arguments import DistillTrainingArguments
from .base import Objective
from .classes import FeatureObjective, LabelObjective, LogitsObjective
from .embeddings import EmbeddingObjective, SimilarityObjective
from .layer_maps import layer_pairs
from .layers import AttentionObjective, HiddenStateObjective, MixedStateObjective, RelationObjective


@dataclass(frozen=True)
class Dimensions:
    """What objectives must know of an encoder, live or cached.

    Attributes:
        depth: number of layers.
        hidden_size: width of hidden states.
        attention_heads: heads of each layer.
        labels: names of the task head's classes by id.
        vocab_size: rows of the embedding matrix.
    """

    depth: int
    hidden_size: int
    attention_heads: int
    labels: tuple[str, ...]
    vocab_size: int

    @classmethod
    def of(cls, config: PreTrainedConfig) -> Dimensions:
        """Read them off a model's configuration."""
        labels = tuple(str(config.id2label[i]) for i in sorted(config.id2label))
        return cls(config.num_hidden_layers, config.hidden_size, config.num_attention_heads, labels, config.vocab_size)


def build_objectives(
    args: DistillTrainingArguments,
    student: Dimensions,
    teacher: Dimensions,
    *,
    row_wise: bool,
    features: int | None = None,
) -> list[Objective]:
    """The objectives whose weight is above 0, checked against both models.

    Args:
        args: weights, losses and layer maps.
        student: the student's dimensions.
        teacher: the teacher's; without one, the student's.
        features: width of what the student's classifier reads, where that is not its hidden size.
        row_wise: whether the student's head gives one output per row (sequence classification).

    Raises:
        ValueError: the two models do not fit each other in what an objective compares.
    """
    sizes = student.hidden_size, teacher.hidden_size
    # A student that is compared by other things may be deeper than its teacher.
    by_layers = args.hidden_weight or args.attention_weight
    pairs = tuple(layer_pairs(args.layer_map, student.depth, teacher.depth)) if by_layers else ()
    made: list[Objective] = []
    if args.embedding_weight:
        check_widths(args, *sizes)
        made.append(EmbeddingObjective(args.embedding_weight, *args.poolers, args.embedding_loss, *sizes))
    if args.similarity_weight:
        made.append(SimilarityObjective(args.similarity_weight, *args.poolers))
    if args.logits_weight:
        _check_labels(student, teacher)
        made.append(LogitsObjective(args.logits_weight, args.logits_loss, args.temperature, row_wise))
    if not student.attention_heads:
        _check_without_attention(args, student, pairs)
    if args.hidden_weight:
        check_widths(args, *sizes)
        kind = MixedStateObjective if args.layer_map == "mix" else HiddenStateObjective
        made.append(kind(args.hidden_weight, pairs, *sizes, args.hidden_loss, args.hidden_tokens))
    if args.features_weight:
        sizes = features or student.hidden_size, teacher.hidden_size
        check_widths(args, *sizes)
        made.append(FeatureObjective(args.features_weight, args.hidden_loss, row_wise, *sizes))
    if args.attention_weight:
        check_pairs(args, "attention_weight")
        with_maps = [(s, group) for s, group in pairs if s > 0 and min(group) > 0]
        made.append(AttentionObjective(args.attention_weight, _layers(with_maps), args.attention_loss))
    if args.relation_weight:
        made.append(_relation_objective(args, student, teacher))
    if args.label_weight:
        made.append(LabelObjective(args.label_weight, row_wise))
    return made


def check_widths(args: DistillTrainingArguments, student: int, teacher: int) -> None:
    """Raise a ValueError for vectors of different widths where no projector is allowed."""
    if args.projector == "none" and student != teacher:
        raise ValueError(
            f"The student's vectors have {student} features, the teacher's {teacher}, and projector='none' allows no "
            "map between them. Set projector='linear', or use similarity_weight or relation_weight, which compare "
            "across widths."
        )


def check_pairs(args: DistillTrainingArguments, objective: str) -> None:
    """Raise a ValueError for a mixture of layers where single ones are compared."""
    if args.layer_map == "mix":
        raise ValueError(
            f"{objective} compares pairs of layers, but layer_map='mix' makes one average of all. Use 'top', "
            "'uniform', 'last', 'average' or pairs; only hidden_weight takes 'mix'."
        )


def _check_without_attention(
    args: DistillTrainingArguments, student: Dimensions, pairs: tuple[tuple[int, tuple[int, ...]], ...]
) -> None:
    """Refuse what a student of LSTMs doesn't have."""
    if asked := [name for name in ("attention_weight", "relation_weight") if getattr(args, name)]:
        raise ValueError(
            f"{asked[0]} compares attention, which this student doesn't have. Use hidden_weight with "
            "layer_map='last', or logits_weight."
        )
    if args.hidden_weight and any(state != student.depth for state, _ in pairs):
        raise ValueError(
            f"layer_map={args.layer_map!r} compares states below the top, but a student of LSTMs is as wide as its "
            f"config.hidden_size only there. Use layer_map='last', or name a layer of the teacher: '{student.depth}:4'."
        )


def _check_labels(student: Dimensions, teacher: Dimensions) -> None:
    if student.labels != teacher.labels:
        raise ValueError(
            f"The logits mean other classes: the student's labels are {_shortened(student.labels)}, the teacher's "
            f"{_shortened(teacher.labels)}. Build the student with the teacher's id2label and label2id, in its order."
        )


def _shortened(labels: tuple[str, ...]) -> str:
    return f"{', '.join(labels[:6])}{', …' if len(labels) > 6 else ''} ({len(labels)})"


def _relation_objective(args: DistillTrainingArguments, student: Dimensions, teacher: Dimensions) -> RelationObjective:
    for side, size in (("student", student.hidden_size), ("teacher", teacher.hidden_size)):
        if size % args.relation_heads:
            fits = [n for n in range(1, 65) if student.hidden_size % n == 0 and teacher.hidden_size % n == 0]
            raise ValueError(
                f"relation_heads={args.relation_heads} does not divide the {side}'s width of {size}. These divide both "
                f"models': {', '.join(map(str, fits))}."
            )
    pairs = layer_pairs(args.relation_map, student.depth, teacher.depth)
    if any(len(group) > 1 or not ours or not min(group) for ours, group in pairs):
        raise ValueError(
            f"relation_map={args.relation_map!r} must pair single layers counted from 1: 'last' or e.g. '3:10'."
        )
    return RelationObjective(args.relation_weight, _layers(pairs), args.relation_heads)


def _layers(pairs: Iterable[tuple[int, tuple[int, ...]]]) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """Pairs of hidden states, as pairs of the layers that they come out of."""
    return tuple((ours - 1, tuple(theirs - 1 for theirs in group)) for ours, group in pairs)
