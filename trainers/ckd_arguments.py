"""Arguments of contrastive distillation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .arguments import DistillTrainingArguments


@dataclass
class CKDTrainingArguments(DistillTrainingArguments):
    """`DistillTrainingArguments` with the contrastive objective and its queue.

    Any other objective can be added by its weight: `embedding_weight` with `embedding_loss="mse"`, as published.
    """

    contrastive_weight: float = field(
        default=1.0,
        metadata={"help": "Weight of the contrastive objective (InfoNCE from the student to the teacher)."},
    )
    contrastive_temperature: float = field(
        default=0.05, metadata={"help": "tau of the contrastive objective; divides the cosines."}
    )
    learn_temperature: bool = field(
        default=False,
        metadata={"help": "Learn tau, starting from --contrastive_temperature; it never goes below 0.01."},
    )
    both_directions: bool = field(
        default=False,
        metadata={"help": "Take the mean with InfoNCE from the teacher to the student. Embeds every text twice."},
    )
    student_negatives: bool = field(
        default=False,
        metadata={"help": "Make the student's own embeddings of other texts negatives, too. Embeds every text twice."},
    )
    queue_size: int | None = field(
        default=None,
        metadata={
            "help": "Teacher embeddings of past steps that are kept as further negatives. Default: 65,536, or as many "
            "as there are training rows if those are fewer. 0 for none."
        },
    )
    queue_dtype: Literal["float32", "float16", "bfloat16"] = field(
        default="float32", metadata={"help": "Number format in which the queue is kept."}
    )
    fill_queue: bool = field(
        default=False,
        metadata={
            "help": "Fill the queue before the first step, with the teacher's embeddings of training rows, from "
            "--teacher_cache if there is one. Default: it starts empty."
        },
    )

    def __post_init__(self):
        super().__post_init__()
        if self.contrastive_temperature <= 0:
            raise ValueError(
                f"contrastive_temperature={self.contrastive_temperature}: tau divides the cosines and must be above 0."
            )
        if self.queue_size is not None and self.queue_size < 0:
            raise ValueError(f"queue_size={self.queue_size}: 0 (no queue) or above.")
