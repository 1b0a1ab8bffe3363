"""Arguments of contrastive training."""

from __future__ import annotations

from dataclasses import dataclass

from transformers.hf_argparser import HfArg

from .distill import DistillTrainingArguments


@dataclass
class ContrastiveTrainingArguments(DistillTrainingArguments):
    """`DistillTrainingArguments` with a contrastive objective. Any other can be added by its weight."""

    contrastive_weight: float = HfArg(default=1.0, help="Weight of the contrastive objective (InfoNCE).")
    contrastive_temperature: float = HfArg(default=0.05, help="tau of the contrastive objective; divides the cosines.")
    learn_temperature: bool = HfArg(
        default=False, help="Learn tau, starting from --contrastive_temperature; it never goes below 0.01."
    )

    def __post_init__(self):
        super().__post_init__()
        if self.contrastive_temperature <= 0:
            raise ValueError(
                f"contrastive_temperature={self.contrastive_temperature}: tau divides the cosines and must be above 0."
            )
