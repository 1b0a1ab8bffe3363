"""Arguments and surroundings under which a run would not be what it looks like."""

import copy
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import datasets
import torch
from torch.utils.data import IterableDataset
from transformers import PreTrainedModel

from ...modeling import parts_between_layers
from ...modeling.encoding import SentenceEncoder, require_bidirectional
from ..arguments import DistillTrainingArguments
from ..objectives import Objective
from ..steps import check_longest, row_lengths

_NOT_TAKEN = {
    "model_init": "objectives, heads and the teacher's cache are made for one student. Call it yourself, after "
    "set_seed(args.seed), and hand over its result as model; for hyperparameter_search, make a trainer for each trial.",
    "compute_loss_func": "the loss is the weighted sum of the objectives. Subclass the trainer and extend "
    "build_objectives, or use transformers.Trainer.",
}


def take_student(
    student: PreTrainedModel | SentenceEncoder, args: DistillTrainingArguments
) -> tuple[PreTrainedModel, SentenceEncoder | None, DistillTrainingArguments]:
    """The model to be trained; where it comes with its pooling and modules, the `SentenceEncoder` that holds them; and
    the arguments, whose pooler is then the student's. The caller's own arguments stay as they are.

    Raises:
        TypeError: arguments that know no objectives.
        ValueError: a causal model; another pooler than `args.pooler` names; numbers that are cut off an embedding which
            a kept projector is to read.
    """
    if not isinstance(args, DistillTrainingArguments):
        raise TypeError(
            f"args must be DistillTrainingArguments, which hold the objectives' weights, but got {type(args).__name__}."
        )
    if not isinstance(student, SentenceEncoder):
        if isinstance(student, PreTrainedModel):
            require_bidirectional(student, "a student")
        return student, None, args
    require_bidirectional(student.model, "a student")
    pooling = student.modules.pooling
    if args.pooler not in (type(args).pooler, str(pooling)):
        raise ValueError(f"pooler={args.pooler!r}, but the student pools by {str(pooling)!r}. Leave pooler out.")
    if student.modules.truncate_dim and args.keep_projector:
        raise ValueError(
            f"keep_projector would put a map behind the student's truncate_dim={student.modules.truncate_dim}, but "
            "sentence-transformers cuts embeddings last. Leave one of the two out."
        )
    if len(pooling.modes) == 1:
        args = copy.copy(args)
        args.pooler = str(pooling)
    return student.model, student, args


def check_run(
    student: PreTrainedModel,
    args: DistillTrainingArguments,
    trainer_arguments: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Refuse arguments and surroundings under which a run would not be what it looks like.

    Args:
        trainer_arguments: what else `transformers.Trainer` was to be given.

    Raises:
        TypeError: what is not a model as a student.
        ValueError: a student with adapters of PEFT; `model_init` or `compute_loss_func`; a student in half
            precision; DataParallel; activation checkpointing that would lose gradients; ZeRO-3 that would not gather
            the student's weights.
    """
    for name, reason in _NOT_TAKEN.items():
        if trainer_arguments.get(name) is not None:
            raise ValueError(f"{name} is not taken: {reason}")
    _check_student(student)
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
    if args.auto_find_batch_size:
        _check_finding_of_batches(args, trainer_arguments)
    if args.activation_checkpointing:
        _check_checkpointing(student, args)
    if args.shards_weights:
        key = "zero_optimization.stage3_gather_16bit_weights_on_model_save"
        if not args.hf_deepspeed_config.is_true(key):
            raise ValueError(
                f"Under ZeRO-3 no student could be saved without {key}: set it to true in the DeepSpeed configuration."
            )


def _check_finding_of_batches(args: DistillTrainingArguments, trainer_arguments: Mapping[str, Any]) -> None:
    """Refuse to look for a batch size where a run could not start over."""
    if args.world_size > 1:
        raise ValueError(
            f"auto_find_batch_size on {args.world_size} processes: one that is out of memory would leave the others "
            "waiting for it. Find the size on one, and set per_device_train_batch_size or tokens_per_batch."
        )
    if any(trainer_arguments.get("optimizers") or ()):
        raise ValueError(
            "auto_find_batch_size starts over with a new optimizer, but optimizers=... is one that was made already. "
            "Pass optimizer_cls_and_kwargs=(class, settings) instead."
        )


def _check_student(student: Any) -> None:
    """Refuse what can't be a student."""
    from peft import PeftModel

    if isinstance(student, PeftModel):
        raise ValueError(
            "The student is a PeftModel, whose adapters no checkpoint of retort's would hold. Hand over "
            "student.merge_and_unload(), or train adapters that are merged afterwards by Stage(lora=...)."
        )
    if not isinstance(student, PreTrainedModel):
        raise TypeError(
            f"model must be a transformers model, but got a {type(student).__name__}"
            + (f" ({student!r})" if isinstance(student, str) else "")
            + ". Load it first, e.g. AutoModel.from_pretrained(name, dtype=torch.float32), or cut it from the teacher "
            "by retort.shrink()."
        )


def _check_checkpointing(student: PreTrainedModel, args: DistillTrainingArguments) -> None:
    """Refuse activation checkpointing that the student doesn't have, or under which gradients would be lost.

    Reentrant checkpointing (torch.utils.checkpoint) runs a layer without a graph, and gives one to its output alone.
    """
    name = type(student).__name__
    if not student.supports_gradient_checkpointing:
        raise ValueError(
            f"The student, a {name}, has no activation checkpointing. Leave activation_checkpointing out, and make "
            "per_device_train_batch_size smaller and gradient_accumulation_steps larger instead."
        )
    if not (args.activation_checkpointing_kwargs or {}).get("use_reentrant", False):
        return
    way_out = "Set activation_checkpointing_kwargs={'use_reentrant': False}, which is the default."
    for weight in ("attention_weight", "relation_weight"):
        if getattr(args, weight):
            raise ValueError(
                f"{weight} compares what is made within a layer, where reentrant activation checkpointing keeps no "
                f"graph: the layer would not learn from it. {way_out}"
            )
    if parts_between_layers(student):
        raise ValueError(
            f"The layers of {name} share the norm of their relative positions, through which reentrant activation "
            f"checkpointing would have to go back once for each layer, and can't. {way_out}"
        )


def check_optimizer(objectives: Sequence[Objective], trainer_arguments: Mapping[str, Any]) -> None:
    """Refuse an optimizer that was made before the objectives' weights, which it would never train."""
    optimizer = (trainer_arguments.get("optimizers") or (None,))[0]
    trained = [objective.name for objective in objectives if any(True for _ in objective.parameters())]
    if optimizer is not None and trained:
        raise ValueError(
            f"The optimizer in optimizers=... doesn't hold the weights of the objectives {', '.join(trained)}, which "
            "are trained beside the student. Pass optimizer_cls_and_kwargs=(class, settings) instead."
        )


def check_token_budget(dataset: Any, args: DistillTrainingArguments) -> None:
    """Refuse training rows that can't be divided by their tokens.

    Raises:
        ValueError: a dataset that doesn't tell its lengths, or a row that is longer than a batch.
    """
    if args.tokens_per_batch is None or dataset is None:
        return
    if not isinstance(dataset, datasets.Dataset):
        raise ValueError(
            f"tokens_per_batch needs the lengths of all rows before training, but train_dataset is a "
            f"{type(dataset).__name__}. Set per_device_train_batch_size instead, or pass a datasets.Dataset."
        )
    if {"length", "input_ids"} & set(dataset.column_names) and len(dataset):
        check_longest(row_lengths(dataset), args.tokens_per_batch)


def check_streams(dataset: Any, args: DistillTrainingArguments) -> None:
    """Make a streaming dataset run on several ranks; refuse what would have to see its rows before.

    Raises:
        ValueError: a teacher cache for rows that can't be counted, or a dataset that has no columns to join it with.
    """
    if args.teacher_cache and dataset is not None and not isinstance(dataset, datasets.Dataset):
        raise ValueError(
            f"teacher_cache needs a datasets.Dataset, whose rows it stands beside, but one of the datasets is a "
            f"{type(dataset).__name__}. Leave teacher_cache out (the teacher then runs at every step), or load the "
            "data without streaming."
        )
    if isinstance(dataset, IterableDataset) and args.accelerator_config.dispatch_batches is None:
        # accelerate would have rank 0 read for all ranks, and can't send what isn't a tensor. Now each rank takes its
        # own share of the stream.
        args.accelerator_config.dispatch_batches = False
