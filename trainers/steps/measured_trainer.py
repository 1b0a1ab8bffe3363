"""A Trainer that logs means of the objectives and of other measures."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import Trainer

from .means import RunningMeans

_WAY_OUT = (
    "Lower the learning rate, use --bf16 rather than --fp16, or look for labels and teacher outputs that are NaN or "
    "infinite."
)


class MeasuredTrainer(Trainer):
    """Keeps means of measures: in training since the last log and since the start, in evaluation over a dataset."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self._means = {True: RunningMeans(), False: RunningMeans()}  # of training (True) and evaluation (False)
        self._since_start = RunningMeans()
        self._to_log: dict[str, float] = {}

    def measure(self, name: str, total: Tensor, count: int | Tensor) -> None:
        """Add `count` values with the sum `total` to the mean that is logged as `name`."""
        self._means[self.model.training].add(name, total, count)
        if self.model.training:
            self._since_start.add(name, total, count)

    def _take_means(self, *, training: bool) -> dict[str, float]:
        """Return the means over all ranks, and reset them. All ranks must call it."""
        return self._finite(self._means[training].take(self.accelerator), training=training)

    def _finite(self, means: dict[str, float], *, training: bool = True) -> dict[str, float]:
        finite = {name: mean for name, mean in means.items() if math.isfinite(mean)}
        if len(finite) < len(means) and not (training and self.args.logging_nan_inf_filter):
            name = next(name for name in means if name not in finite)
            raise FloatingPointError(f"{name} is {means[name]} by step {self.state.global_step}. {_WAY_OUT}")
        return finite

    def check_weights(self, state: Mapping[str, Tensor]) -> None:
        """Refuse to save weights of `model` that are not finite."""
        buffers = dict(self.model.named_buffers(remove_duplicate=False))  # a mask may be infinite
        if infinite := [name for name in sorted(state.keys() - buffers) if not state[name].isfinite().all()]:
            raise FloatingPointError(
                f"The student was not saved: by step {self.state.global_step}, {len(infinite)} of its weights are not "
                f"finite ({infinite[0]}, ...). {_WAY_OUT}"
            )

    # --- Training -----------------------------------------------------------------------------------------------------

    def train(self, *arguments, **named):
        """Train (see `Trainer.train`). Measures of an earlier run after its last log are dropped."""
        self.reset_means()
        return super().train(*arguments, **named)

    def reset_means(self) -> None:
        """Forget the measures of training."""
        self._means[True], self._since_start, self._to_log = RunningMeans(), RunningMeans(), {}

    def _maybe_log_save_evaluate(self, *arguments, **named) -> None:
        # All ranks reduce the means here rather than in `log`, which a callback may call on a single rank.
        if self.control.should_log and self.state.global_step > self._globalstep_last_logged:
            self._to_log = self._take_means(training=True)
        elif self.control.should_save:
            self._finite(self._means[True].read(self.accelerator))
        super()._maybe_log_save_evaluate(*arguments, **named)

    def _finalize_training(self, *arguments, **named):
        means = self._finite(self._since_start.take(self.accelerator))
        self._to_log = {f"train_{name}": mean for name, mean in means.items()}
        return super()._finalize_training(*arguments, **named)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log. Adds the means since the last log to the training loss; those of objectives are without their
        weights."""
        means = self._to_log if "loss" in logs or "train_loss" in logs else {}
        self._to_log = {} if means else self._to_log
        # Trainer resets should_log after any log. A log by a callback on one rank must not make this rank skip the next
        # reduction, for which the other ranks would wait.
        due = self.control.should_log and not means
        logs |= means
        super().log(logs, start_time)
        self.control.should_log = due

    def floating_point_ops(self, inputs) -> int:
        """0, since Trainer's estimate assumes that every token uses all parameters."""
        return 0

    def _track_num_input_tokens(self, inputs) -> None:
        if (kind := self.args.include_num_input_tokens_seen) == "no":
            return
        student = inputs.student["input_ids"]
        tokens = inputs.layout.tokens if kind == "non_padding" else student.numel()
        found = torch.tensor(tokens, device=self.args.device)
        self.state.num_input_tokens_seen += self.accelerator.gather(found).sum().item()
