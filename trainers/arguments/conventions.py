"""Arguments of `transformers.TrainingArguments` that would have no effect, or a wrong one, in a distillation."""

from transformers import TrainingArguments

# Name -> the values that leave it off, and what to do instead.
REFUSED = {
    "neftune_noise_alpha": (
        (None,),
        "its noise depends on the padded length, which packed batches don't have. Use dropout",
    ),
    "bf16_full_eval": ((False,), "it would round the student's weights. Use bf16, which evaluation uses, too"),
    "fp16_full_eval": ((False,), "it would round the student's weights. Use fp16, which evaluation uses, too"),
    "include_for_metrics": (
        ([], None),
        "predictions are in the order of the dataset's rows. Read the inputs from the dataset",
    ),
    "use_liger_kernel": ((False,), "its kernels are for decoders. Leave it out"),
    "liger_kernel_config": ((None,), "its kernels are for decoders. Leave it out"),
    "label_names": ((None,), "labels are read from the column 'labels' (or 'label'). Rename yours"),
    "length_column_name": (("length",), "lengths are read from the column 'length'. Rename yours"),
    "average_tokens_across_devices": ((True,), "means are over the rows and tokens of all ranks. Leave it out"),
    "parallelism_config": ((None,), "only deepspeed (ZeRO-3) and fsdp shard a student. Leave it out"),
}


def refuse_unsupported(args: TrainingArguments) -> None:
    """Refuse arguments that a distillation doesn't support."""
    for name, (unset, way_out) in REFUSED.items():
        if (value := getattr(args, name)) not in unset:
            raise ValueError(f"{name}={value!r} is not supported: {way_out}.")
