"""Builds the objectives of a run from arguments and two models, and checks that they fit."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedConfig, PreTrainedModel

from ...modeling import is_row_wise, projected_classifier
from ...modeling.encoding import has_plain_output_layer
from ..arguments import DistillTrainingArguments
from .base import REGRESSION, SINGLE_LABEL, Objective
from .classes import FeatureObjective, LabelObjective, LogitsObjective
from .layers import (
    AttentionObjective,
    HiddenStateObjective,
    LayerPairs,
    MixedStateObjective,
    RelationObjective,
    StateDistance,
    layer_pairs,
)
from .projector import projector
from .vocabulary import VocabularyLogitsObjective
from .whole_step import SimilarityObjective


@dataclass(frozen=True)
class Dimensions:
    """Properties of a live or cached encoder that objectives need.

    `labels` are the names of its classes by id. `problem` is the `problem_type` of a sequence head. `embedding_size` is
    the width of an embedding, which differs from `hidden_size` if a Dense module follows the pooler.
    """

    depth: int  # number of layers
    hidden_size: int
    attention_heads: int | None  # 0 of an LSTM; None of other encoders without attention (FNet)
    labels: tuple[str, ...]
    vocab_size: int | None  # None of an encoder that hashes characters (CANINE)
    embedding_size: int
    problem: str = SINGLE_LABEL

    @classmethod
    def of(cls, config: PreTrainedConfig) -> Dimensions:
        """The dimensions of a model with this configuration.

        Raises:
            ValueError: the configuration has no depth or no width, since it is that of several encoders.
        """
        labels = tuple(str(config.id2label[i]) for i in sorted(config.id2label))
        # The default of transformers if the configuration doesn't define it.
        problem = config.problem_type or (REGRESSION if len(labels) == 1 else SINGLE_LABEL)
        for name in ("num_hidden_layers", "hidden_size"):
            if getattr(config, name, None) is None:
                raise ValueError(
                    f"{type(config).__name__} has no {name}. retort distils text encoders. If the model has several "
                    "parts, pass the text encoder alone."
                )
        heads, vocabulary = (getattr(config, name, None) for name in ("num_attention_heads", "vocab_size"))
        depth, width = config.num_hidden_layers, config.hidden_size
        return cls(depth, width, heads, labels, vocabulary, embedding_size=width, problem=problem)


def build_objectives(
    args: DistillTrainingArguments, student: PreTrainedModel, teacher: Dimensions, *, reads_output_layer: bool = False
) -> list[Objective]:
    """The objectives whose weight is above 0, checked against both models, without `EmbeddingObjective`.

    Args:
        args: arguments with the weights.
        student: the model to be trained.
        teacher: the teacher's dimensions, or the student's if there is no teacher.
        reads_output_layer: whether the teacher's output layer is available: there is one teacher, and it is live.

    Raises:
        ValueError: the models don't match in the outputs that an objective compares, or their widths differ and
            `args.projector` is `"none"`.
    """
    ours, row_wise = Dimensions.of(student.config), is_row_wise(student)
    # Only if layers are compared; otherwise a student may be deeper than its teacher.
    by_layers = args.hidden_weight or args.attention_weight
    pairs = layer_pairs(args.layer_map, ours.depth, teacher.depth) if by_layers else []
    if args.logits_weight:
        _check_classes(ours, teacher, row_wise)
        if student.get_output_embeddings() is not None and ours.vocab_size != teacher.vocab_size:
            raise ValueError(
                f"logits_weight needs equal vocabularies, but the student's has {ours.vocab_size} entries and the "
                f"teacher's {teacher.vocab_size}. Use resize_token_embeddings() to make them equally large, or a "
                "VocabReducedMLMTrainer if the tokenizers differ."
            )
    if ours.attention_heads == 0:
        _check_lstm(args, ours, pairs)
    _check_attention_heads(args, ours, teacher)
    if args.attention_weight:
        check_pairs(args, "attention_weight")
    with_maps = [(s, group) for s, group in pairs if s > 0 and min(group) > 0]
    if args.attention_weight and not with_maps:
        raise ValueError(
            f"attention_weight compares the attention maps of layers, but layer_map={args.layer_map!r} pairs none: 0 "
            "is the embedding layer, which has no attention. Pair layers counted from 1, e.g. '1:2,2:4'."
        )
    relations = _relation_pairs(args, ours, teacher) if args.relation_weight else []
    hidden = MixedStateObjective if args.layer_map == "mix" else HiddenStateObjective
    sizes = ours.hidden_size, teacher.hidden_size
    problem = problem_of(student)
    projected = projected_classifier(student)
    features = projected[1].classifier.in_features if projected else ours.hidden_size
    made: list[Objective] = []
    if args.similarity_weight:
        made.append(SimilarityObjective(args.similarity_weight, *args.poolers))
    if args.logits_weight:
        settings = args.logits_weight, args.logits_loss, args.temperature
        if reads_output_layer and not (args.runs_under_zero3 or args.shard_teacher) and has_plain_output_layer(student):
            made.append(VocabularyLogitsObjective(*settings))
        else:
            made.append(LogitsObjective(*settings, row_wise=row_wise, problem=problem))
    if args.hidden_weight:
        compare = StateDistance(args.hidden_loss, args.hidden_tokens)
        made.append(hidden(args.hidden_weight, pairs, *sizes, args.projector, compare))
    if args.features_weight:
        project = projector(features, teacher.hidden_size, args.projector)
        made.append(FeatureObjective(args.features_weight, args.hidden_loss, project, row_wise=row_wise))
    if args.attention_weight:
        made.append(AttentionObjective(args.attention_weight, _layers(with_maps), args.attention_loss))
    if args.relation_weight:
        made.append(RelationObjective(args.relation_weight, _layers(relations), args.relation_heads))
    if args.label_weight:
        smoothing = args.label_smoothing_factor
        made.append(LabelObjective(args.label_weight, row_wise=row_wise, problem=problem, smoothing=smoothing))
    return made


def problem_of(model: PreTrainedModel) -> str:
    """The kind of outputs of a model's head. transformers only uses `problem_type` in sequence heads."""
    found = Dimensions.of(model.config)
    if is_row_wise(model):
        return found.problem
    return REGRESSION if len(found.labels) == 1 and model.get_output_embeddings() is None else SINGLE_LABEL


def check_pairs(args: DistillTrainingArguments, objective: str) -> None:
    """Raise a ValueError if `layer_map` is `"mix"`, but the objective compares single layers."""
    if args.layer_map == "mix":
        raise ValueError(
            f"{objective} compares pairs of layers, but layer_map='mix' averages all layers. Use 'top', 'uniform', "
            "'last', 'average' or pairs; only hidden_weight supports 'mix'."
        )


def _check_attention_heads(args: DistillTrainingArguments, student: Dimensions, teacher: Dimensions) -> None:
    """Refuse to compare the attention of encoders that have none."""
    asked = [name for name in ("attention_weight", "relation_weight") if getattr(args, name)]
    for role, side in (("student", student), ("teacher", teacher)):
        if asked and side.attention_heads is None:
            raise ValueError(
                f"{asked[0]} compares attention, but the {role} has none: its configuration has no "
                "num_attention_heads. Use hidden_weight or embedding_weight instead."
            )


def _check_lstm(args: DistillTrainingArguments, student: Dimensions, pairs: LayerPairs) -> None:
    """Refuse objectives that an LSTM student doesn't support."""
    if asked := [name for name in ("attention_weight", "relation_weight") if getattr(args, name)]:
        raise ValueError(
            f"{asked[0]} compares attention, which this student doesn't have. Use hidden_weight with "
            "layer_map='last', or logits_weight."
        )
    if args.hidden_weight and any(state != student.depth for state, _ in pairs):
        raise ValueError(
            f"layer_map={args.layer_map!r} compares states below the top layer, but only the top layer of an LSTM "
            f"student has the width config.hidden_size. Use layer_map='last', or one pair: '{student.depth}:4'."
        )


def _check_classes(student: Dimensions, teacher: Dimensions, row_wise: bool) -> None:
    if student.labels != teacher.labels:
        raise ValueError(
            f"The classes of the logits differ: the student's labels are {_shortened(student.labels)}, the teacher's "
            f"{_shortened(teacher.labels)}. Build the student with the teacher's id2label and label2id, in its order."
        )
    if row_wise and student.problem != teacher.problem:
        raise ValueError(
            f"The models solve different problems: the student's problem_type is {student.problem!r}, the teacher's "
            f"{teacher.problem!r}. Build the student with the teacher's config.problem_type."
        )


def _shortened(labels: tuple[str, ...]) -> str:
    return f"{', '.join(labels[:6])}{', …' if len(labels) > 6 else ''} ({len(labels)})"


def _relation_pairs(args: DistillTrainingArguments, student: Dimensions, teacher: Dimensions) -> LayerPairs:
    for side, size in (("student", student.hidden_size), ("teacher", teacher.hidden_size)):
        if size % args.relation_heads:
            fits = [n for n in range(1, 65) if student.hidden_size % n == 0 and teacher.hidden_size % n == 0]
            raise ValueError(
                f"relation_heads={args.relation_heads} does not divide the {side}'s hidden size of {size}. These "
                f"numbers divide those of both models: {', '.join(map(str, fits))}."
            )
    pairs = layer_pairs(args.relation_map, student.depth, teacher.depth)
    if any(len(group) > 1 or not ours or not min(group) for ours, group in pairs):
        raise ValueError(
            f"relation_map={args.relation_map!r} must pair single layers counted from 1: 'last' or e.g. '3:10'."
        )
    return pairs


def _layers(pairs: LayerPairs) -> LayerPairs:
    """Convert pairs of hidden states to pairs of the layers that computed them."""
    return [(ours - 1, tuple(theirs - 1 for theirs in group)) for ours, group in pairs]
