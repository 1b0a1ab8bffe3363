"""A Trainer that logs the means of what it measures."""

import math

import torch
from torch import Tensor
from transformers import Trainer

from .means import RunningMeans


class MeasuredTrainer(Trainer):
    """Keeps means of the objectives' values, in training since the last log, in evaluation over a whole dataset."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self._means = {True: RunningMeans(), False: RunningMeans()}  # by whether the student is in training
        self._to_log: dict[str, float] = {}

    def measure(self, name: str, total: Tensor, count: int | Tensor) -> None:
        """Put `count` values, whose sum is `total`, into the mean that is logged under a name."""
        self._means[self.model.training].add(name, total, count)

    def _take_means(self, *, training: bool) -> dict[str, float]:
        """The means, over all ranks, each of which must come here; and begin anew.

        Raises:
            FloatingPointError: one that is not finite. Nothing good can come of further steps.
        """
        found = self._means[training].take(self.accelerator)
        for name, mean in found.items():
            if not math.isfinite(mean):
                raise FloatingPointError(
                    f"{name} is {mean} at step {self.state.global_step}. Lower the learning rate, use --bf16 rather "
                    "than --fp16, or look for rows that make the teacher's outputs infinite."
                )
        return found

    # --- Training -----------------------------------------------------------------------------------------------------

    def train(self, *arguments, **named):
        """Train (see `Trainer.train`); what an earlier run measured after its last log is forgotten."""
        self._means[True] = RunningMeans()
        return super().train(*arguments, **named)

    def _maybe_log_save_evaluate(self, *arguments, **named) -> None:
        # The ranks meet here, where all of them are, and not in `log`, which a callback may call on one rank alone.
        if self.control.should_log and self.state.global_step > self._globalstep_last_logged:
            self._to_log = self._take_means(training=True)
        super()._maybe_log_save_evaluate(*arguments, **named)

    def _finalize_training(self, *arguments, **named):
        if self._means[True]:
            self._to_log = {f"train_{name}": mean for name, mean in self._take_means(training=True).items()}
        return super()._finalize_training(*arguments, **named)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, and beside the training loss the means since the last log, of each objective before its weight."""
        means = self._to_log if "loss" in logs or "train_loss" in logs else {}
        self._to_log = {} if means else self._to_log
        # Trainer takes any log for the one that was due. What a callback logs on one rank must not stop that rank alone
        # from meeting the others.
        due = self.control.should_log and not means
        logs |= means
        super().log(logs, start_time)
        self.control.should_log = due

    def floating_point_ops(self, inputs) -> int:
        """0: Trainer's estimate takes the student for a model whose tokens all go through all of its parameters."""
        return 0

    def _track_num_input_tokens(self, inputs) -> None:
        if (kind := self.args.include_num_input_tokens_seen) == "no":
            return
        student = inputs.student["input_ids"]
        tokens = inputs.layout.tokens if kind == "non_padding" else student.numel()
        found = torch.tensor(tokens, device=self.args.device)
        self.state.num_input_tokens_seen += self.accelerator.gather(found).sum().item()
