"""What is fixed in every run under FSDP2: what is sharded, in which precision, and how it is saved."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from torch.distributed.fsdp import MixedPrecisionPolicy

if TYPE_CHECKING:
    from .distill import DistillTrainingArguments

# The settings of `fsdp_config` that may be chosen, and the values of others that are always used.
_CHOSEN = {"version", "reshard_after_forward"}
_FIXED = {"state_dict_type": "FULL_STATE_DICT", "auto_wrap_policy": "TRANSFORMER_BASED_WRAP"}
_OFF = {"false", "0", "none"}
_WAYS_OUT = {
    "activation_checkpointing": "Set the training argument activation_checkpointing",
    "cpu_offload": "To offload to the CPU, use DeepSpeed ZeRO-3",
    "cpu_ram_efficient_loading": "Every rank loads the whole model before it is sharded. Leave it out",
}


def set_up_fsdp(args: DistillTrainingArguments) -> None:
    """Set what is fixed, and refuse settings with which a student could not be trained or saved.

    FSDP2 gathers and reduces in float32, and bf16 is autocast, as without FSDP. accelerate's default would compute all
    losses from outputs in bfloat16, and sum gradients in it.

    Raises:
        ValueError: the launcher or `fsdp_config` asks for FSDP, but `args.fsdp` doesn't; the version is 1; or FSDP is
            combined with something that it doesn't support.
    """
    if not args.fsdp:
        if args.fsdp_config:
            raise ValueError("fsdp_config has no effect without fsdp. Set fsdp, too, or leave fsdp_config out.")
        if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
            raise ValueError(
                "accelerate launch was told to use FSDP, whose settings retort takes from its own arguments. Leave it "
                "out there (accelerate launch --multi_gpu), and pass --fsdp (in a recipe: arguments.fsdp=true)."
            )
        return
    if args.torch_compile:
        raise ValueError("torch_compile is not supported under FSDP. Leave one of the two out.")
    if args.shard_teacher and args.teacher_cache:
        raise ValueError("Under FSDP, a sharded teacher can't be cached. Leave out shard_teacher or teacher_cache.")
    config: dict[str, Any] = args.fsdp_config
    if int(config.get("version", 2)) != 2:
        raise ValueError(f"fsdp_config has version={config['version']!r}: retort supports FSDP2 alone. Leave it out.")
    for name, value in config.items():
        if name in _CHOSEN or value == _FIXED.get(name) or str(value).lower() in _OFF:
            continue
        way_out = _WAYS_OUT.get(name, "The student is sharded layer by layer, and saved as a whole. Leave it out")
        raise ValueError(f"fsdp_config has {name}={value!r}, which is not supported: {way_out}.")
    args.fsdp_plugin_args["mixed_precision_policy"] = MixedPrecisionPolicy()
