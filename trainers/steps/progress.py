"""Output during training: a line with the settings of the run, and a progress bar with the losses."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerState
from transformers.trainer_callback import ProgressCallback

from ..arguments import DistillTrainingArguments

# Entries of Trainer's log that are neither losses nor scores.
_BESIDE = ("epoch", "total_flos", "learning_rate", "grad_norm", "num_input_tokens_seen")
_COSTS = ("_runtime", "_per_second")


class RunHeader(TrainerCallback):
    """Prints a line at the start of training: device, precision, attention back end, batch and steps.

    Args:
        attention: name of the student's attention back end; None if it depends on the user's own collator.
    """

    def __init__(self, attention: str | None):
        self.attention = attention

    def on_train_begin(self, args, state, control, **kwargs):
        """Print the line. `Trainer` calls this when the number of steps is known."""
        if state.is_world_process_zero:
            print(describe_training(args, state, self.attention), flush=True)


class TrainingBar(ProgressCallback):
    """transformers' progress bar, with losses in the bar and one line per evaluation instead of a dict per log.

    The bar of a resumed run begins at the resumed step, so the remaining time is that of the remaining steps.
    """

    def on_train_begin(self, args, state, control, **kwargs):
        """Open the bar. Closes the bar of a failed attempt (`auto_find_batch_size`) first."""
        if self.training_bar is not None:
            self.on_train_end(args, state, control)
        self.current_step = state.global_step
        if state.is_world_process_zero:
            self.training_bar = tqdm(total=state.max_steps, initial=state.global_step, dynamic_ncols=True)

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Show losses in the bar. Write results of evaluations and the means of the whole training above it."""
        if self.training_bar is None:
            return
        text = shown(logs)
        if "loss" in logs:
            self.training_bar.set_postfix_str(text)
        elif text:
            self.training_bar.write(f"Step {state.global_step:,}: {text}")


def shown(logs: Mapping[str, Any]) -> str:
    """The losses and scores of a log, on one line."""
    names = [
        name
        for name, value in logs.items()
        if isinstance(value, Real) and name not in _BESIDE and not name.endswith(_COSTS)
    ]
    parts = [name for name in names if name.startswith("loss_")]
    if parts and math.isclose(logs.get("loss", 0), logs[parts[0]], rel_tol=1e-3):  # one objective with the weight 1
        names.remove(parts[0])
    return ", ".join(f"{name} {logs[name]:.4g}" for name in names)


def describe_training(args: DistillTrainingArguments, state: TrainerState, attention: str | None) -> str:
    """The settings of a run on one line. The batch is rows, or tokens, per micro-batch x micro-batches x ranks."""
    device = args.device
    place = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    count = torch.get_num_threads()
    threads = f" ({count} thread{'s' * (count > 1)})" if device.type == "cpu" else ""
    # The state of a checkpoint has the batch size of the run that wrote it. auto_find_batch_size updates the state.
    size = args.tokens_per_batch or args.train_batch_size
    size = state.train_batch_size if args.auto_find_batch_size else size
    unit = "tokens" if args.tokens_per_batch else "rows"
    accumulated, ranks = args.gradient_accumulation_steps, args.world_size
    resumed = f", from step {state.global_step:,}" if state.global_step else ""
    text = {
        "device": f"{place}{threads}",
        "precision": str(args.compute_dtype).removeprefix("torch."),
        "attention": attention,
        "batch": f"{size * accumulated * ranks:,} {unit} ({size} x {accumulated} x {ranks})",
        "steps": f"{state.max_steps:,}{resumed}",
    }
    return "Training: " + "; ".join(f"{name} {value}" for name, value in text.items() if value)
