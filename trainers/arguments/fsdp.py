"""What is fixed in every run under FSDP2: what is sharded, in which precision, and how it is saved."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers.training_args import OptimizerNames as Optimizer

if TYPE_CHECKING:
    from .distill import DistillTrainingArguments

# Values that the settings of `fsdp_config` may have, in lower case: their defaults, but for `reshard_after_forward`.
_OFF = ("false", "0", "none")
_SUPPORTED = {
    "reshard_after_forward": ("true", "false"),
    "version": ("2",),
    "state_dict_type": ("full_state_dict",),
    "auto_wrap_policy": ("transformer_based_wrap",),
    **dict.fromkeys(("activation_checkpointing", "cpu_offload", "cpu_ram_efficient_loading"), _OFF),
    **dict.fromkeys(("min_num_params", "transformer_layer_cls_to_wrap"), _OFF),
    **dict.fromkeys(("xla", "xla_fsdp_v2", "xla_fsdp_grad_ckpt"), _OFF),
}
_WAYS_OUT = {
    "reshard_after_forward": "Choose true or false",
    "version": "Only FSDP2 is supported. Leave it out",
    "state_dict_type": "A student is saved as a whole. Leave it out",
    "auto_wrap_policy": "A student is sharded layer by layer. Leave it out",
    "transformer_layer_cls_to_wrap": "A student is sharded layer by layer. Leave it out",
    "activation_checkpointing": "Set the training argument of the same name. transformers then warns of it",
    "cpu_offload": "To offload to the CPU, use DeepSpeed ZeRO-3",
    "cpu_ram_efficient_loading": "Every rank loads the whole model before it is sharded. Leave it out",
}
# Optimizers that are known to update shards as they update whole weights.
_OPTIMIZERS = (Optimizer.ADAMW_TORCH_FUSED, Optimizer.ADAMW_TORCH, Optimizer.SGD, Optimizer.RMSPROP, Optimizer.ADAGRAD)


def read_fsdp_config(args: DistillTrainingArguments) -> None:
    """Refuse settings of `fsdp_config` that aren't supported, and keep the one that can be chosen.

    transformers would take the string "false" for true in some of them, and its errors name neither setting nor file.

    Raises:
        ValueError: `fsdp` is a strategy of FSDP1; `fsdp_config` can't be read, or is set without `fsdp`; or it has a
            setting that isn't supported.
    """
    if args.fsdp not in (True, False, None):
        raise ValueError(f"fsdp={args.fsdp!r}, but true or false was expected: FSDP2 has no other strategies.")
    config = _read(args.fsdp_config)
    if config and not args.fsdp:
        raise ValueError("fsdp_config has no effect without fsdp. Set fsdp, too, or leave fsdp_config out.")
    settings = {str(name).removeprefix("fsdp_"): value for name, value in config.items()}
    for name, value in settings.items():
        if str(value).lower() not in _SUPPORTED.get(name, ()):
            way_out = _WAYS_OUT.get(name, "Of its settings, only reshard_after_forward can be chosen. Leave it out")
            raise ValueError(f"fsdp_config has {name}={value!r}, which is not supported. {way_out}.")
    chosen = settings.get("reshard_after_forward")
    args.fsdp_config = None if chosen is None else {"reshard_after_forward": str(chosen).lower() == "true"}


def _read(config: dict[str, Any] | str | None) -> dict[str, Any]:
    """An `fsdp_config`, which may be a dict, a JSON object or a file with one."""
    found = {} if config is None else config
    if isinstance(config, str):
        try:
            found = json.loads(config if config.lstrip().startswith("{") else Path(config).read_text())
        except (OSError, ValueError) as error:
            raise ValueError(f"fsdp_config={config!r} can't be read as a JSON object, or as a file: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"fsdp_config={config!r}, but a dict was expected, or a file with a JSON object.")
    return found


def set_up_fsdp(args: DistillTrainingArguments) -> None:
    """Set the precision, and refuse arguments with which a student could not be trained or saved.

    FSDP2 gathers weights and sums gradients in the weights' own dtype (float32 for students), and bf16 is autocast, as
    without FSDP. accelerate's default would compute all losses from outputs in bfloat16, and sum gradients in it.

    Raises:
        ValueError: the launcher asks for FSDP, or it is combined with something that it doesn't support.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        raise ValueError(
            "accelerate launch was told to use FSDP, whose settings retort takes from its own arguments. Leave it out "
            "there (accelerate launch --multi_gpu), and pass --fsdp (in a recipe: arguments.fsdp=true)."
        )
    if not args.fsdp:
        return
    if args.deepspeed:
        raise ValueError("fsdp and deepspeed both shard the student. Leave one of the two out.")
    if args.torch_compile:
        raise ValueError("torch_compile is not supported under FSDP. Leave one of the two out.")
    if args.optim not in _OPTIMIZERS:
        names = ", ".join(each.value for each in _OPTIMIZERS)
        raise ValueError(f"optim={args.optim.value!r} is not supported under FSDP. Choose one of {names}.")
    if args.shard_teacher and args.teacher_cache:
        raise ValueError("Under FSDP, a sharded teacher can't be cached. Leave out shard_teacher or teacher_cache.")
    args.fsdp_plugin_args["mixed_precision_policy"] = MixedPrecisionPolicy()
