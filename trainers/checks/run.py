"""Checks of the student, the arguments and the environment of a run."""

import copy
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import datasets
import torch
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from ...modeling import StaticModel, parts_between_layers
from ...modeling.encoding import (
    SentenceEncoder,
    SentenceModules,
    check_static,
    refuse_block_sparse,
    require_bidirectional,
)
from ..arguments import DistillTrainingArguments
from ..objectives import Objective
from ..steps import check_longest, row_lengths
from .setup import Setup

_NOT_TAKEN = {
    "model_init": "objectives, heads and the teacher's cache are made for one student. Call it yourself after "
    "set_seed(args.seed), and pass its result as model. For hyperparameter_search, make a trainer for each trial.",
    "compute_loss_func": "the loss is the weighted sum of the objectives. Subclass the trainer and extend "
    "build_objectives, or use transformers.Trainer.",
}

logger = logging.get_logger(__name__)

# Attribute of a student whose adapters a stage merges, so that its folder has none.
MERGED_LATER = "_retort_merges_adapters"


def take_student(
    student: PreTrainedModel | SentenceEncoder, args: DistillTrainingArguments
) -> tuple[PreTrainedModel, SentenceEncoder | None, DistillTrainingArguments]:
    """Split a student into its model and its modules.

    Returns:
        The model to be trained; the `SentenceEncoder` with its pooling and modules, or None; and a copy of the
        arguments with the student's pooler, or the arguments themselves.

    Raises:
        ValueError: the model is causal; its pooler is not `args.pooler`; or `keep_projector` is set for a student that
            truncates its embeddings.
    """
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
            f"keep_projector would add a layer behind the student's truncate_dim={student.modules.truncate_dim}, but "
            "sentence-transformers truncates embeddings last. Leave one of the two out."
        )
    if len(pooling.modes) == 1:
        args = copy.copy(args)
        args.pooler = str(pooling)
    return student.model, student, args


def check_run(
    student: PreTrainedModel,
    args: DistillTrainingArguments,
    trainer_arguments: Mapping[str, Any],
    encoder: SentenceEncoder | None,
    tokenizer: PreTrainedTokenizerBase | None,
) -> None:
    """Refuse students, arguments and environments with which a run would fail or be wrong.

    Args:
        trainer_arguments: further arguments of `transformers.Trainer`.
        encoder: the student's own pooling and modules, if it has any.
        tokenizer: the student's tokenizer.
    """
    for name, reason in _NOT_TAKEN.items():
        if trainer_arguments.get(name) is not None:
            raise ValueError(f"{name} is not supported: {reason}")
    _check_student(student)
    if isinstance(student, StaticModel):
        _check_static_student(student, encoder, args, tokenizer)
    halves = {p.dtype for p in student.parameters() if p.requires_grad} & {torch.float16, torch.bfloat16}
    if halves:
        raise ValueError(
            f"The student's weights are in {halves.pop()}, in which small updates are lost. Load it with "
            "dtype=torch.float32; --bf16 still computes in bfloat16."
        )
    if args.n_gpu > 1:
        raise ValueError(
            f"{args.n_gpu} GPUs in one process would run under DataParallel. Start one process per GPU: torchrun "
            f"--nproc_per_node {args.n_gpu} ..., or choose one GPU with CUDA_VISIBLE_DEVICES=0."
        )
    # accelerate would leave FSDP out without a word.
    if args.fsdp and args.distributed_state.distributed_type in (DistributedType.NO, DistributedType.MULTI_CPU):
        raise ValueError(
            "fsdp shards over GPUs, with a process for each, but this run has no GPU, or no launcher has started it. "
            "Start it with torchrun --nproc_per_node N, where N is the number of GPUs, or leave fsdp out."
        )
    if args.auto_find_batch_size:
        _check_finding_of_batches(args, trainer_arguments)
    if args.activation_checkpointing:
        _check_checkpointing(student, args)
    if args.runs_under_zero3:
        key = "zero_optimization.stage3_gather_16bit_weights_on_model_save"
        if not args.hf_deepspeed_config.is_true(key):
            raise ValueError(
                f"ZeRO-3 can't save the student without {key}: set it to true in the DeepSpeed configuration."
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
    """Refuse objects that can't be a student."""
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    if isinstance(student, PeftModel):
        raise ValueError(
            "The student is a PeftModel, but retort's checkpoints don't contain adapters. Pass "
            "student.merge_and_unload(), or use Stage(lora=...) to train adapters that are merged afterwards."
        )
    if not isinstance(student, PreTrainedModel):
        raise TypeError(
            f"model must be a transformers model, but got a {type(student).__name__}"
            + (f" ({student!r})" if isinstance(student, str) else "")
            + ". Load it first, e.g. AutoModel.from_pretrained(name, dtype=torch.float32), or make it from the teacher "
            "with retort.shrink()."
        )
    refuse_block_sparse(student, "a student")
    adapted = [name for name, module in student.named_modules() if isinstance(module, BaseTunerLayer)]
    if adapted and not getattr(student, MERGED_LATER, False):
        raise ValueError(
            f"The student has adapters (in {adapted[0]}), but retort's checkpoints don't contain adapters. Load it "
            "again without inject_adapter_in_model or add_adapter (a PeftModel has merge_and_unload()), or use "
            "Stage(lora=...) to train adapters that are merged afterwards."
        )


def _check_static_student(
    student: StaticModel,
    encoder: SentenceEncoder | None,
    args: DistillTrainingArguments,
    tokenizer: PreTrainedTokenizerBase | None,
) -> None:
    """Refuse objectives and exports that a student without layers doesn't support."""
    if asked := [name for name in ("hidden_weight", "attention_weight", "relation_weight") if getattr(args, name)]:
        raise ValueError(
            f"{asked[0]} compares layers, but a static student has none. Compare embeddings: embedding_weight, "
            "similarity_weight, or CKDTrainer."
        )
    if args.keep_projector:
        raise ValueError(
            "keep_projector would add a linear map after a static student's mean, but model2vec's format has none. "
            "Leave it out; token vectors of the teacher's width (no hidden_size) need no projector."
        )
    modules = SentenceModules.plain(args.pooler, 1, normalize=False) if encoder is None else encoder.modules
    if tokenizer is not None:
        check_static(student, tokenizer, modules)


def _check_checkpointing(student: PreTrainedModel, args: DistillTrainingArguments) -> None:
    """Refuse activation checkpointing if the student doesn't support it, or if it would lose gradients.

    Reentrant checkpointing (torch.utils.checkpoint) runs a layer without a graph, so only its output gets gradients.
    """
    name = type(student).__name__
    if not student.supports_gradient_checkpointing:
        raise ValueError(
            f"The student, a {name}, does not support activation checkpointing. Leave activation_checkpointing out, "
            "and make per_device_train_batch_size smaller and gradient_accumulation_steps larger instead."
        )
    if not (args.activation_checkpointing_kwargs or {}).get("use_reentrant", False):
        return
    way_out = "Set activation_checkpointing_kwargs={'use_reentrant': False}, which is the default."
    for weight in ("attention_weight", "relation_weight"):
        if getattr(args, weight):
            raise ValueError(
                f"{weight} compares values from within a layer, for which reentrant activation checkpointing keeps no "
                f"graph, so the layer would get no gradient from it. {way_out}"
            )
    if parts_between_layers(student):
        raise ValueError(
            f"The layers of {name} share the norm of their relative positions, and reentrant activation checkpointing "
            f"can't backpropagate through it once for each layer. {way_out}"
        )


def check_apart(student: PreTrainedModel, encoder: SentenceEncoder | None, teachers: Sequence[Any]) -> None:
    """Refuse a student that would train weights of a teacher in memory, which is frozen; and models in shards."""
    for model in (student, *teachers):
        if any(isinstance(each, DTensor) for each in _named_parameters(model).values()):
            raise ValueError(
                "A model was sharded by an earlier trainer under FSDP, and can't be used by another one. Load it again "
                "from its files."
            )
    ours = _named_parameters(student if encoder is None else encoder)
    for teacher in teachers:
        theirs = set(map(_memory_of, _named_parameters(teacher).values()))
        if shared := [name for name, own in ours.items() if own.requires_grad and _memory_of(own) in theirs]:
            raise ValueError(
                f"The student's {shared[0]} has the memory of the teacher's, and a teacher is frozen. Give the student "
                "a copy of the module, copy.deepcopy(module), or make it with shrink(), which copies."
            )


def _memory_of(parameter: torch.nn.Parameter) -> int:
    """The address of a parameter's values. Those on the meta device have none, so it is that of the object."""
    return parameter.untyped_storage().data_ptr() or id(parameter)


def _named_parameters(model: Any) -> dict[str, torch.nn.Parameter]:
    """Those of a model and of the modules after it; none for a folder, and for a PEFT model, which the run copies."""
    if isinstance(model, SentenceEncoder):
        head = model.modules.head.named_parameters(prefix="modules.head")
        return dict(chain(model.model.named_parameters(), head))
    return dict(model.named_parameters()) if isinstance(model, PreTrainedModel) else {}


def check_optimizer(objectives: Sequence[Objective], trainer_arguments: Mapping[str, Any]) -> None:
    """Refuse a given optimizer if objectives have parameters, since it would not train them."""
    optimizer = (trainer_arguments.get("optimizers") or (None,))[0]
    trained = [objective.name for objective in objectives if any(True for _ in objective.parameters())]
    if optimizer is not None and trained:
        raise ValueError(
            f"The optimizer in optimizers=... doesn't hold the weights of the objectives {', '.join(trained)}, which "
            "are trained with the student. Pass optimizer_cls_and_kwargs=(class, settings) instead."
        )


def check_trained(setup: Setup) -> None:
    """Refuse to train if all parameters of the student are frozen, and nothing else has any."""
    head = [] if setup.student_encoder is None else [setup.student_encoder.modules.head]
    modules = (setup.student, *head, *setup.objectives)
    if not any(parameter.requires_grad for module in modules for parameter in module.parameters()):
        raise ValueError(
            "Nothing would be trained: all parameters of the student are frozen, and no objective has parameters. If "
            "it was the teacher of an earlier trainer, which froze it, call student.requires_grad_(True) (of a "
            "SentenceEncoder: of its model and modules.head). In a stage, leave out trainable, or name groups of "
            "parameters."
        )
    if not any(parameter.requires_grad for module in (setup.student, *head) for parameter in module.parameters()):
        logger.warning("All parameters of the student are frozen: only the objectives' projectors are trained.")


def check_token_budget(dataset: Any, args: DistillTrainingArguments) -> None:
    """Refuse training rows that can't be batched by tokens."""
    if args.tokens_per_batch is None or dataset is None:
        return
    if not isinstance(dataset, datasets.Dataset):
        raise ValueError(
            f"tokens_per_batch needs the lengths of all rows before training, but train_dataset is a "
            f"{type(dataset).__name__}. Set per_device_train_batch_size instead, or pass a datasets.Dataset."
        )
    if {"length", "input_ids"} & set(dataset.column_names) and len(dataset):
        check_longest(row_lengths(dataset), args.tokens_per_batch)


def check_cached_rows(dataset: Any, args: DistillTrainingArguments) -> None:
    """Refuse a teacher cache for a stream."""
    if args.teacher_cache and dataset is not None and not isinstance(dataset, datasets.Dataset):
        raise ValueError(
            f"teacher_cache needs a datasets.Dataset, since it adds columns to it, but one of the datasets is a "
            f"{type(dataset).__name__}. Leave teacher_cache out (the teacher then runs at every step), or load the "
            "data without streaming."
        )
