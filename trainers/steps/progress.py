"""What a run shows while it trains: a line that says how it runs, and one bar with the losses in it."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerState
from transformers.trainer_callback import ProgressCallback

from ..arguments import DistillTrainingArguments

# What Trainer logs beside losses and scores.
_BESIDE = ("epoch", "total_flos", "learning_rate", "grad_norm", "num_input_tokens_seen")
_COSTS = ("_runtime", "_per_second")


class RunHeader(TrainerCallback):
    """Prints a line at the start of training: device, precision, attention back end, batch and steps.

    Args:
        attention: name of the student's back end; None where the batches of a user's own collator decide it.
    """

    def __init__(self, attention: str | None):
        self.attention = attention

    def on_train_begin(self, args, state, control, **kwargs):
        """Called by `Trainer` once it knows the number of steps."""
        if state.is_world_process_zero:
            print(describe_training(args, state, self.attention), flush=True)


class TrainingBar(ProgressCallback):
    """transformers' progress bar, with losses in the bar and a line for each evaluation, not a dict for each log.

    A resumed run's bar begins where the run does, so that the time to go is that of the steps to go.
    """

    def on_train_begin(self, args, state, control, **kwargs):
        """Open the bar; one that a failed attempt (`auto_find_batch_size`) has left is closed."""
        if self.training_bar is not None:
            self.on_train_end(args, state, control)
        self.current_step = state.global_step
        if state.is_world_process_zero:
            self.training_bar = tqdm(total=state.max_steps, initial=state.global_step, dynamic_ncols=True)

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Put losses into the bar; write above it what an evaluation has found, and the means of the whole training."""
        if self.training_bar is None:
            return
        told = shown(logs)
        if "loss" in logs:
            self.training_bar.set_postfix_str(told)
        elif told:
            self.training_bar.write(f"Step {state.global_step:,}: {told}")


def shown(logs: Mapping[str, Any]) -> str:
    """The losses and scores of a log, on one line."""
    names = [
        name
        for name, value in logs.items()
        if isinstance(value, Real) and name not in _BESIDE and not name.endswith(_COSTS)
    ]
    parts = [name for name in names if name.startswith("loss_")]
    if parts and logs.get("loss") == logs[parts[0]]:  # one objective with the weight 1
        names.remove(parts[0])
    return ", ".join(f"{name} {logs[name]:.4g}" for name in names)


def describe_training(args: DistillTrainingArguments, state: TrainerState, attention: str | None) -> str:
    """How a run trains, on one line. The batch is rows of a micro-batch x micro-batches of a step x ranks."""
    device = args.device
    place = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    threads = f" ({torch.get_num_threads()} threads)" if device.type == "cpu" else ""
    # A checkpoint's state has the batch size of the run that wrote it; auto_find_batch_size tells its own by the state.
    rows = state.train_batch_size if args.auto_find_batch_size else args.train_batch_size
    accumulated, ranks = args.gradient_accumulation_steps, args.world_size
    resumed = f", from step {state.global_step:,}" if state.global_step else ""
    told = {
        "device": f"{place}{threads}",
        "precision": str(args.compute_dtype).removeprefix("torch."),
        "attention": attention,
        "batch": f"{rows * accumulated * ranks:,} rows ({rows} x {accumulated} x {ranks})",
        "steps": f"{state.max_steps:,}{resumed}",
    }
    return "Training: " + "; ".join(f"{name} {value}" for name, value in told.items() if value)
