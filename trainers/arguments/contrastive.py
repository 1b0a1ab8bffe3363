"""Arguments of contrastive training."""

from __future__ import annotations

from dataclasses import dataclass, field

from .distill import DistillTrainingArguments


@dataclass
class ContrastiveTrainingArguments(DistillTrainingArguments):
    """`DistillTrainingArguments` with a contrastive objective. Any other can be added by its weight."""

    contrastive_weight: float = field(
        default=1.0,
        metadata={"help": "Weight of the contrastive objective (InfoNCE)."},
    )
    contrastive_temperature: float = field(
        default=0.05, metadata={"help": "tau of the contrastive objective; divides the cosines."}
    )
    learn_temperature: bool = field(
        default=False,
        metadata={"help": "Learn tau, starting from --contrastive_temperature; it never goes below 0.01."},
    )

    def __post_init__(self):
        super().__post_init__()
        if self.contrastive_temperature <= 0:
            raise ValueError(
                f"contrastive_temperature={self.contrastive_temperature}: tau divides the cosines and must be above 0."
            )
