"""What would train in silence on wrong numbers is refused before the run starts."""

from collections.abc import Sequence
from functools import reduce
from operator import or_

import datasets
import pyarrow as pa
import pyarrow.compute as pc
import torch
from transformers import PreTrainedModel

from ..modeling import backbone, is_row_wise
from ..modeling.encoding import Normalize, SentenceEncoder, require_bidirectional
from ..modeling.losses import IGNORED_LABEL
from .arguments import DistillTrainingArguments
from .objectives import (
    AttentionObjective,
    EmbeddingObjective,
    FeatureObjective,
    HiddenPairsObjective,
    LabelObjective,
    Objective,
    PooledObjective,
    RelationObjective,
)


def take_student(student: PreTrainedModel | SentenceEncoder, args: DistillTrainingArguments) -> PreTrainedModel:
    """The model to be trained; the pooler of a `SentenceEncoder` becomes the run's.

    Raises:
        ValueError: a causal model; another pooler than `args.pooler` names; or modules of a `SentenceEncoder` that
            would not be trained and exported with the student.
    """
    if not isinstance(student, SentenceEncoder):
        if isinstance(student, PreTrainedModel):
            require_bidirectional(student, "a student")
        return student
    require_bidirectional(student.model, "a student")
    modules, pooler = student.modules, str(student.modules.pooling)
    cosine = args.embedding_loss == "cosine"  # decides whether the exported student normalises
    more = [type(module).__name__ for module in modules.head if not (cosine and isinstance(module, Normalize))]
    more += [f"the prompt {modules.prompt()!r}"] if modules.prompt() else []
    more += [f"truncate_dim={modules.truncate_dim}"] if modules.truncate_dim else []
    more += [f"concatenated poolers ({pooler})"] if len(modules.pooling.modes) > 1 else []
    if more:
        raise ValueError(
            f"The student has {', '.join(more)}, which would not be trained and saved with it. Pass its encoder alone "
            "(SentenceEncoder.model), and choose its pooler by pooler=..."
        )
    if args.pooler not in (type(args).pooler, pooler):
        raise ValueError(f"pooler={args.pooler!r}, but the student pools by {pooler!r}. Leave pooler out.")
    args.pooler = pooler
    return student.model


def check_run(student: PreTrainedModel, args: DistillTrainingArguments) -> None:
    """Refuse arguments and surroundings under which a run would not be what it looks like.

    Raises:
        TypeError: arguments that know no objectives.
        ValueError: a student in half precision, DataParallel, or ZeRO-3 that would not gather the student's weights.
    """
    if not isinstance(args, DistillTrainingArguments):
        raise TypeError(
            f"args must be DistillTrainingArguments, which hold the objectives' weights, but got {type(args).__name__}."
        )
    halves = {p.dtype for p in student.parameters() if p.requires_grad} & {torch.float16, torch.bfloat16}
    if halves:
        raise ValueError(
            f"The student's weights are in {halves.pop()}, in which small updates are lost. Load it with "
            "dtype=torch.float32; --bf16 still computes in bfloat16."
        )
    if args.n_gpu > 1:
        raise ValueError(
            f"{args.n_gpu} GPUs in one process would run under DataParallel. Start one process for each: torchrun "
            f"--nproc_per_node {args.n_gpu} ..., or choose one with CUDA_VISIBLE_DEVICES=0."
        )
    if args.shards_weights:
        key = "zero_optimization.stage3_gather_16bit_weights_on_model_save"
        if not args.hf_deepspeed_config.is_true(key):
            raise ValueError(
                f"Under ZeRO-3 no student could be saved without {key}: set it to true in the DeepSpeed configuration."
            )


def check_objectives(
    objectives: Sequence[Objective],
    args: DistillTrainingArguments,
    student: PreTrainedModel,
    teachers: Sequence[PreTrainedModel],
    dataset: datasets.Dataset | None,
    *,
    has_teacher: bool,
    same_tokens: bool,
) -> None:
    """Refuse objectives that the models or the training rows do not serve.

    Args:
        teachers: the live ones.
        dataset: the training rows, whose columns tell whether they were tokenised for both and aligned.
        has_teacher: whether there is a live teacher, or a cache.
        same_tokens: whether the two tokenizers given do the same.

    Raises:
        ValueError: no objective, or one that reads a teacher's outputs where there is none; widths that differ without
            a projector; outputs that a model does not have, or that DeepSpeed can't differentiate; labels that the
            student's head can't learn; tokens that are compared but not the same.
    """
    if not objectives:
        weights = ", ".join(args.weights)
        raise ValueError(f"No objective: every weight is 0. Set at least one of {weights}, e.g. to 1.0.")
    if not has_teacher and (asked := [o.name for o in objectives if o.teacher_request()]):
        raise ValueError(
            f"No teacher for {', '.join(asked)}: pass a model, folder or hub id as teacher=..., or teacher_cache=... "
            "with outputs written before. Without a teacher, set label_weight alone."
        )
    if args.projector == "none":
        _check_widths(objectives)
    check_sharding(objectives, args, student.config.num_hidden_layers)
    _check_heads(objectives, student, teachers)
    if any(isinstance(o, LabelObjective) for o in objectives):
        _check_labels(student, dataset)
    if any(isinstance(o, AttentionObjective) for o in objectives):
        _check_attention([student, *teachers])
    _check_alignment(objectives, student, teachers, dataset, same_tokens)


def _check_widths(objectives: Sequence[Objective]) -> None:
    """Refuse vectors of different widths, which a projector would map."""
    for objective in objectives:
        compares = isinstance(objective, EmbeddingObjective | FeatureObjective | HiddenPairsObjective)
        if compares and objective.student_size != objective.teacher_size:
            raise ValueError(
                f"The student's vectors have {objective.student_size} features, the teacher's "
                f"{objective.teacher_size}, and projector='none' allows no map between them. Set projector='linear', "
                "or use similarity_weight or relation_weight, which compare across widths."
            )


def check_sharding(objectives: Sequence[Objective], args: DistillTrainingArguments, depth: int) -> None:
    """Refuse what DeepSpeed can't differentiate: it counts on the output of every module that ran being used.

    Raises:
        ValueError: under ZeRO-3, features without logits (the classifier that reads them runs for nothing), or nothing
            that reads the top one of the student's `depth` layers.
    """
    if not args.shards_weights:
        return
    request = reduce(or_, (objective.student_request() for objective in objectives))
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


def _check_labels(student: PreTrainedModel, dataset: datasets.Dataset | None) -> None:
    """Refuse labels that the student's head can't learn, by their number, their kind or their range."""
    if not isinstance(dataset, datasets.Dataset) or "labels" not in dataset.column_names:
        return
    labels = dataset.select_columns("labels").with_format("arrow")[:]["labels"]
    name, of_tokens = type(student).__name__, pa.types.is_nested(labels.type)
    if of_tokens == is_row_wise(student):
        raise ValueError(
            f"There is one label for each {'token' if of_tokens else 'row'} (a {labels.type}), but the head of "
            f"{name} learns one for each {'row' if of_tokens else 'token'}."
        )
    if of_tokens:
        labels = pc.list_flatten(labels)
    if pa.types.is_integer(labels.type):
        labels = labels.filter(pc.not_equal(labels, IGNORED_LABEL))
    classes = student.config.num_labels if student.get_output_embeddings() is None else student.config.vocab_size
    if pa.types.is_floating(labels.type) != (classes == 1):
        raise ValueError(
            f"The labels are of type {labels.type}, but the head of {name} has {classes} outputs. Classes are integers "
            "for a head with an output for each; values are floats for a head with one (num_labels=1)."
        )
    if classes > 1 and (len(labels) == 0 or pc.min(labels).as_py() < 0 or pc.max(labels).as_py() >= classes):
        found = f"{pc.min(labels)} to {pc.max(labels)}" if len(labels) else "none"
        raise ValueError(f"{name} has the classes 0 to {classes - 1}, but the labels are {found}.")


def _check_alignment(
    objectives: Sequence[Objective],
    student: PreTrainedModel,
    teachers: Sequence[PreTrainedModel],
    dataset: datasets.Dataset | None,
    same_tokens: bool,
) -> None:
    """Refuse to compare tokens that are not the same."""
    columns = getattr(dataset, "column_names", None) or []
    own_tokens = "teacher_input_ids" in columns
    sizes = {teacher.config.vocab_size for teacher in teachers} - {student.config.vocab_size}
    if sizes and same_tokens and not own_tokens:
        raise ValueError(
            f"The student's vocabulary has {student.config.vocab_size} entries and the teacher's {sizes.pop()}: the "
            "same ids would mean other tokens. Pass teacher_processing_class=... here, and teacher_tokenizer=... to "
            "tokenize()."
        )
    if not same_tokens and columns and not own_tokens:
        raise ValueError(
            "Student and teacher have different tokenizers, but the rows hold no teacher_input_ids. Pass "
            "teacher_tokenizer=... to tokenize()."
        )
    if not own_tokens:
        return
    for objective in objectives:
        if isinstance(objective, AttentionObjective | RelationObjective):
            raise ValueError(
                f"The objective {objective.name!r} compares every pair of tokens, which two different tokenizers don't "
                "share. Use hidden_weight with align=True in tokenize(), or embedding_weight."
            )
        row_wise = isinstance(objective, PooledObjective) or getattr(objective, "row_wise", False)
        if not row_wise and objective.teacher_request() and not {"student_positions", "spans"} & set(columns):
            raise ValueError(
                f"The objective {objective.name!r} compares tokens, but student and teacher have different "
                "tokenizers and the rows are not aligned. Pass align=True to tokenize(), or distil embeddings "
                "(embedding_weight)."
            )
