"""Checks of the objectives against the models and the size of a step."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from ...data import VECTORS
from ...modeling import is_row_wise
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
    teacher_request,
)
from .setup import Setup


def check_objectives(setup: Setup) -> None:
    """Refuse objectives that don't fit the models or the size of a step."""
    objectives, args, student = setup.objectives, setup.args, setup.student
    if not objectives:
        weights = ", ".join(args.weights)
        raise ValueError(f"No objective: every weight is 0. Set at least one of {weights}, e.g. to 1.0.")
    if not setup.has_teacher and (asked := [o.name for o in objectives if o.teacher_request()]):
        raise ValueError(
            f"No teacher for {', '.join(asked)}: pass a model, folder or hub id as teacher=..., teacher_cache=... with "
            f"outputs of an earlier run, or rows with its vectors (column {VECTORS!r}). Without a teacher, set "
            "label_weight only."
        )
    requests = {objective.name: objective.teacher_request() for objective in objectives}
    if setup.vectors and (more := [n for n, read in requests.items() if read != OutputRequest(pooler=read.pooler)]):
        raise ValueError(
            f"{', '.join(more)}: the rows hold only the teacher's embeddings (column {VECTORS!r}), not its hidden "
            "states, logits, attention or tokens. Pass the teacher itself, or compare embeddings (embedding_weight, "
            "similarity_weight, CKDTrainer)."
        )
    _check_rows_of_a_step(objectives, args)
    check_sharding(objectives, args, student.config.num_hidden_layers)
    _check_heads(setup)
    _check_smoothing(objectives, args)
    for objective in objectives:
        if objective.student_request().output_layer:
            _check_output_layer(objective.name, student)
    if any(isinstance(o, AttentionObjective) for o in objectives):
        _check_attention([student, *setup.teacher_models])


def _check_rows_of_a_step(objectives: Sequence[Objective], args: DistillTrainingArguments) -> None:
    """Refuse to compare the rows of a step if there is one row, or if steps or ranks have different numbers of rows."""
    if args.rows_per_step == 1 and any(isinstance(o, SimilarityObjective) for o in objectives):
        raise ValueError(
            "similarity_weight compares the rows of a step with one another, but a step has only one row. Raise "
            "per_device_train_batch_size or gradient_accumulation_steps."
        )
    compared = [_with_origin(objective) for objective in objectives if isinstance(objective, WholeStepObjective)]
    if compared and args.tokens_per_batch:
        raise ValueError(
            f"tokens_per_batch makes steps with different numbers of rows, but {compared[0]} compares the rows of a "
            "step with one another, so its loss depends on their number. Set per_device_train_batch_size instead."
        )
    if compared and args.world_size > 1 and not args.accelerator_config.even_batches:
        raise ValueError(
            f"accelerator_config has even_batches=False, but {compared[0]} gathers the rows of each step from all "
            "ranks, which must have the same number of rows. Leave it out."
        )


def _with_origin(objective: WholeStepObjective) -> str:
    """Name of an objective, with the arguments that it comes from if it compares short vectors."""
    return objective.name + (" (of truncate_dims or quantization_aware)" if objective.dims else "")


def check_sharding(objectives: Sequence[Objective], args: DistillTrainingArguments, depth: int) -> None:
    """Refuse objectives that read shards, or that DeepSpeed can't differentiate, since ZeRO-3 requires that all outputs
    of modules are used."""
    if args.shard_teacher and teacher_request(objectives).output_layer:
        raise ValueError(
            "Losses over vocabularies apply the teacher's output layer themselves, but shard_teacher shards it over "
            "the ranks. Leave shard_teacher out."
        )
    if not args.runs_under_zero3:
        return
    request = student_request(objectives)
    if request.output_layer:
        raise ValueError(
            "Losses over vocabularies apply the output layer themselves, but ZeRO-3 shards it over the ranks. Run "
            "under ZeRO-2 (examples/deepspeed/zero2.json)."
        )
    if request.features and not request.logits:
        raise ValueError(
            "Under ZeRO-3, features_weight also needs logits_weight or label_weight. Compare hidden states instead "
            "(hidden_weight with layer_map='last'), or run under ZeRO-2."
        )
    if (needed := request.layers_needed(depth)) < depth:
        raise ValueError(
            f"No objective reads the student's layers above {needed}, which ZeRO-3 does not allow. Also compare the "
            f"output of all {depth} layers, or run this stage under ZeRO-2 (the argument deepspeed of the stage)."
        )


def _check_attention(models: Sequence[PreTrainedModel]) -> None:
    """Refuse models without attention maps: implementations other than eager return an empty tuple."""
    for model in models:
        if (kind := model.config._attn_implementation) != "eager":
            raise ValueError(
                f"attention_weight needs attention maps, but {type(model).__name__} has attn_implementation={kind!r}, "
                "which returns none. Call model.set_attn_implementation('eager') on student and teacher, or distil "
                "relations (relation_weight), which need no maps."
            )


def _check_heads(setup: Setup) -> None:
    """Refuse models without logits, and models of which one has logits per row and the other per token."""
    if not student_request(setup.objectives).runs_head:
        return
    student, reads_teacher = setup.student, teacher_request(setup.objectives).runs_head
    for model in [student, *(setup.teacher_models if reads_teacher else ())]:
        if model.base_model is model or is_row_wise(model) != is_row_wise(student):
            raise ValueError(
                "logits_weight, features_weight and label_weight need a task head on the student. The first two also "
                f"need the same kind of head on the teacher. But the student is a {type(student).__name__} and this "
                f"model a {type(model).__name__}. Load both with the same AutoModelFor... class."
            )


def check_output_layers(objectives: Sequence[Objective], models: Sequence[PreTrainedModel]) -> None:
    """Refuse models whose logits differ from the result of their output layer, if losses apply this layer.

    Args:
        objectives: the terms of the loss.
        models: models with their weights, since a few tokens are run through them.
    """
    asked = [objective.name for objective in objectives if objective.teacher_request().output_layer]
    for model in models if asked else ():
        _check_output_layer(asked[0], model)


def _check_output_layer(objective: str, model: PreTrainedModel) -> None:
    if not has_plain_output_layer(model):
        raise ValueError(
            f"The loss of {objective} applies output layers by itself, but {type(model).__name__} has none, or its "
            "head has more than an output layer: a bias of the head, a second matrix, a scale. Use another "
            "architecture (BERT, RoBERTa, ModernBERT; DeBERTa-v2 with legacy=True), or only hidden_weight."
        )


def _check_smoothing(objectives: Sequence[Objective], args: DistillTrainingArguments) -> None:
    """Refuse label smoothing if no objective uses it."""
    factor = args.label_smoothing_factor
    smoothed = any(isinstance(o, LabelObjective) and o.problem == SINGLE_LABEL for o in objectives)
    if factor and not (0 < factor <= 1 and smoothed):
        raise ValueError(
            f"label_smoothing_factor={factor}: label smoothing must be from 0 to 1 and needs label_weight, with one "
            "class for each row or token. Leave it out."
        )
