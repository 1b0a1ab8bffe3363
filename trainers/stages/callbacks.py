"""What a trainer calls while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from transformers import PreTrainedModel, TrainerCallback

Score = Callable[[PreTrainedModel], Mapping[str, float]]


class ScoreOnDev(TrainerCallback):
    """Adds scores on development data to every evaluation, by which the best model may be selected.

    Args:
        score: names scores of a student; they are reported as `eval_<name>`.
    """

    def __init__(self, score: Score):
        self.score = score

    def on_evaluate(self, args, state, control, metrics, model, **kwargs):
        """Score the student as it stands."""
        scores = {f"eval_{name}": value for name, value in self.score(model.student).items()}
        metrics |= scores
        if state.is_world_process_zero:
            told = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
            print(f"Step {state.global_step}: {told}")
