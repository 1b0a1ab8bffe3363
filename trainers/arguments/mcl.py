"""Arguments of distillation by translations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from transformers.hf_argparser import HfArg

from .distill import DistillTrainingArguments


@dataclass
class MCLTrainingArguments(DistillTrainingArguments):
    """`DistillTrainingArguments` with objectives on sentences and their translations, which take the others' place."""

    mcl_weight: float = HfArg(
        default=1.0,
        help="Weight of the squared difference between the teacher's similarities of all sentences of a step, "
        "and the student's of the sentences and the translations.",
    )
    source_weight: float = HfArg(
        default=1.0, help="Weight of the distance between student and teacher on a sentence (--embedding_loss)."
    )
    target_weight: float = HfArg(
        default=1.0,
        help="Weight of the distance between the student on a translation and the teacher on the sentence "
        "(--embedding_loss).",
    )
    embedding_loss: Literal["cosine", "mse"] = HfArg(default="mse", help="Distance of embeddings: 'mse' or 'cosine'.")
