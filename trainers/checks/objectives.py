"""Objectives that the models, or the size of a batch, do not serve."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from ...data import VECTORS
from ...modeling import backbone, is_row_wise
from ...modeling.encoding import OutputRequest, has_plain_output_layer
from ..arguments import DistillTrainingArguments
from ..objectives import (
    SINGLE_LABEL,
    AttentionObjective,
    LabelObjective,
    Objective,
    SimilarityObjective,
    WholeStepObjective,
    student_request,
)


def check_objectives(
    objectives: Sequence[Objective],
    args: DistillTrainingArguments,
    student: PreTrainedModel,
    teachers: Sequence[PreTrainedModel],
    *,
    has_teacher: bool,
    by_vectors: bool,
) -> None:
    """Refuse objectives that the models or the size of a batch do not serve.

    Args:
        teachers: the live ones.
        has_teacher: whether there is a live teacher, a cache, or vectors.
        by_vectors: whether there are only the teacher's embeddings.

    Raises:
        ValueError: no objective, or one that reads a teacher's outputs where there is none, or more than an embedding
            where there are vectors alone; outputs that a model does not have, or that DeepSpeed can't differentiate; a
            masked-LM head that does more than its output layer, where a loss applies that by itself; similarities of a
            step of one row.
    """
    if not objectives:
        weights = ", ".join(args.weights)
        raise ValueError(f"No objective: every weight is 0. Set at least one of {weights}, e.g. to 1.0.")
    if not has_teacher and (asked := [o.name for o in objectives if o.teacher_request()]):
        raise ValueError(
            f"No teacher for {', '.join(asked)}: pass a model, folder or hub id as teacher=..., teacher_cache=... with "
            f"outputs written before, or rows with its vectors (column {VECTORS!r}). Without a teacher, set "
            "label_weight alone."
        )
    requests = {objective.name: objective.teacher_request() for objective in objectives}
    if by_vectors and (more := [n for n, read in requests.items() if read != OutputRequest(pooler=read.pooler)]):
        raise ValueError(
            f"{', '.join(more)}: the rows hold the teacher's embeddings alone (column {VECTORS!r}), not its hidden "
            "states, logits, attention or tokens. Pass the teacher itself, or compare embeddings (embedding_weight, "
            "similarity_weight, CKDTrainer)."
        )
    _check_rows_of_a_step(objectives, args)
    check_sharding(objectives, args, student.config.num_hidden_layers)
    _check_heads(objectives, student, teachers)
    _check_smoothing(objectives, args)
    for objective in objectives:
        if objective.student_request().output_layer:
            _check_output_layer(objective.name, student)
    if any(isinstance(o, AttentionObjective) for o in objectives):
        _check_attention([student, *teachers])


def _check_rows_of_a_step(objectives: Sequence[Objective], args: DistillTrainingArguments) -> None:
    """Refuse to compare the rows of a step where there is one, or where steps or ranks have different numbers."""
    if args.rows_per_step == 1 and any(isinstance(o, SimilarityObjective) for o in objectives):
        raise ValueError(
            "similarity_weight compares the rows of a step with one another, but a step has one. Raise "
            "per_device_train_batch_size or gradient_accumulation_steps."
        )
    compared = [objective.name for objective in objectives if isinstance(objective, WholeStepObjective)]
    if compared and args.tokens_per_batch:
        raise ValueError(
            f"tokens_per_batch makes steps of different numbers of rows, but {compared[0]} compares the rows of a step "
            "with one another: its loss would change with their number. Set per_device_train_batch_size instead."
        )
    if compared and args.world_size > 1 and not args.accelerator_config.even_batches:
        raise ValueError(
            f"accelerator_config has even_batches=False, but for {compared[0]} the ranks exchange the rows of each "
            "step and need the same number of them. Leave it out."
        )


def check_sharding(objectives: Sequence[Objective], args: DistillTrainingArguments, depth: int) -> None:
    """Refuse what DeepSpeed can't differentiate: it counts on the output of every module that ran being used.

    Raises:
        ValueError: under ZeRO-3, features without logits (the classifier that reads them runs for nothing), or nothing
            that reads the top one of the student's `depth` layers.
    """
    if not args.shards_weights:
        return
    request = student_request(objectives)
    if request.output_layer:
        raise ValueError(
            "Losses over vocabularies apply the output layer themselves, of which ZeRO-3 keeps a slice on each rank. "
            "Run under ZeRO-2 (examples/deepspeed/zero2.json)."
        )
    if request.features and not request.logits:
        raise ValueError(
            "features_weight needs logits_weight or label_weight beside it under ZeRO-3. Compare hidden states instead "
            "(hidden_weight with layer_map='last'), or run under ZeRO-2."
        )
    if (needed := request.layers_needed(depth)) < depth:
        raise ValueError(
            f"Nothing reads the student's layers above {needed}, which run in vain under ZeRO-3. Compare what its "
            f"{depth} layers give, too, or run this stage under ZeRO-2 (deepspeed among its arguments)."
        )


def _check_attention(models: Sequence[PreTrainedModel]) -> None:
    """Refuse models that make no attention maps: any implementation other than eager returns an empty tuple."""
    for model in models:
        if (kind := model.config._attn_implementation) != "eager":
            raise ValueError(
                f"attention_weight needs attention maps, but {type(model).__name__} runs attn_implementation={kind!r}, "
                "which makes none. Call model.set_attn_implementation('eager') on student and teacher, or distil "
                "relations (relation_weight), which need no maps."
            )


def _check_heads(
    objectives: Sequence[Objective], student: PreTrainedModel, teachers: Sequence[PreTrainedModel]
) -> None:
    """Refuse logits of models that make none, or make one for each row where the other makes one for each token."""
    if not any(objective.student_request().runs_head for objective in objectives):
        return
    compared = [student, *(teachers if any(o.teacher_request().runs_head for o in objectives) else ())]
    for model in compared:
        if backbone(model) is model or is_row_wise(model) != is_row_wise(student):
            raise ValueError(
                "logits_weight, features_weight and label_weight need a task head on the student, and the first two "
                f"the same kind of head on the teacher, but the student is a {type(student).__name__} and this model a "
                f"{type(model).__name__}. Load both with the same AutoModelFor... class."
            )


def check_output_layers(objectives: Sequence[Objective], models: Sequence[PreTrainedModel]) -> None:
    """Refuse models whose logits are more than what their output layer makes, where losses apply that layer.

    Args:
        objectives: those that read output layers of these models.
        models: with their weights, since a few tokens are run.

    Raises:
        ValueError: such a model.
    """
    asked = [objective.name for objective in objectives if objective.teacher_request().output_layer]
    for model in models if asked else ():
        _check_output_layer(asked[0], model)


def _check_output_layer(objective: str, model: PreTrainedModel) -> None:
    if not has_plain_output_layer(model):
        raise ValueError(
            f"The loss of {objective} applies output layers by itself, but {type(model).__name__} has none, or does "
            "more to its logits than its output layer does: a bias of the head, a second matrix, a scale. Use "
            "another architecture (BERT, RoBERTa, ModernBERT; DeBERTa-v2 with legacy=True), or hidden_weight alone."
        )


def _check_smoothing(objectives: Sequence[Objective], args: DistillTrainingArguments) -> None:
    """Refuse a smoothing of labels that nothing would heed."""
    factor = args.label_smoothing_factor
    smoothed = any(isinstance(o, LabelObjective) and o.problem == SINGLE_LABEL for o in objectives)
    if factor and not (0 < factor <= 1 and smoothed):
        raise ValueError(
            f"label_smoothing_factor={factor}: from 0 to 1, of the labels of rows or tokens that have one class each "
            "(label_weight). Leave it out."
        )
