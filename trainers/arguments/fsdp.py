"""What is fixed in every run under FSDP2: what is sharded, in which precision, and how it is saved."""

import os
from typing import Any

from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import TrainingArguments

# The settings of `fsdp_config` that may be chosen.
_TAKEN = {"version", "reshard_after_forward"}
_WAYS_OUT = {
    "activation_checkpointing": "Set the training argument activation_checkpointing",
    "cpu_offload": "To offload to the CPU, use DeepSpeed ZeRO-3",
}


def check_fsdp(args: TrainingArguments) -> None:
    """Refuse settings of FSDP with which a student could not be trained or saved.

    Raises:
        ValueError: the launcher asks for FSDP, but `args.fsdp` doesn't; the version is 1; the student is compiled; or
            `fsdp_config` has a setting that is not in `_TAKEN`.
    """
    if not args.fsdp:
        if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
            raise ValueError(
                "accelerate launch was told to use FSDP, whose settings retort takes from its own arguments. Leave it "
                "out there (accelerate launch --multi_gpu), and pass --fsdp (in a recipe: arguments.fsdp=true)."
            )
        return
    if args.torch_compile:
        raise ValueError("torch_compile is not supported under FSDP. Leave one of the two out.")
    config: dict[str, Any] = args.fsdp_config
    if int(config.get("version", 2)) != 2:
        raise ValueError(f"fsdp_config has version={config['version']!r}: retort supports FSDP2 alone. Leave it out.")
    for name, value in config.items():
        if name not in _TAKEN and value not in (False, 0, None):  # transformers adds some that are off
            way_out = _WAYS_OUT.get(name, "The student is sharded layer by layer, and saved as a whole. Leave it out")
            raise ValueError(f"fsdp_config has {name}={value!r}, which is not supported: {way_out}.")


def in_full_precision(args: TrainingArguments) -> None:
    """Let FSDP2 gather and reduce in float32. bf16 then is autocast, as without FSDP.

    accelerate's default would compute all losses from outputs in bfloat16, and sum gradients in it.
    """
    args.fsdp_plugin_args["mixed_precision_policy"] = MixedPrecisionPolicy()
