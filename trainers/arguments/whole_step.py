"""Arguments of the trainers in whose loss the rows of a whole step meet."""

from dataclasses import dataclass
from typing import Literal

from transformers.hf_argparser import HfArg

from ...modeling.losses import LearnedScale
from .distill import DistillTrainingArguments


@dataclass
class InfoNCETrainingArguments(DistillTrainingArguments):
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
        lowest, highest = (1 / scale for scale in reversed(LearnedScale.bounds))
        if self.learn_temperature and not lowest <= self.contrastive_temperature <= highest:
            raise ValueError(
                f"contrastive_temperature={self.contrastive_temperature}: with learn_temperature, tau is learnt "
                f"between {lowest:g} and {highest:g} and must start there. Without learn_temperature it may be smaller."
            )


@dataclass
class ContrastiveTrainingArguments(InfoNCETrainingArguments):
    """`InfoNCETrainingArguments` with objectives on a teacher's scores of the documents of a query.

    Such a run may do without the contrastive objective: `contrastive_weight=0`.
    """

    margin_weight: float = HfArg(
        default=0.0,
        help="Weight of MarginMSE: the squared difference of the student's and the teacher's margins, by which the "
        "first document of a query scores above each other.",
    )
    listwise_weight: float = HfArg(
        default=0.0,
        help="Weight of the KL divergence of the student's from the teacher's distribution over the documents of a "
        "query, the softmax of their scores by --temperature.",
    )
    score_activation: Literal["logits", "sigmoid"] | None = HfArg(
        default=None,
        help="What the teacher's scores are: 'logits', or 'sigmoid' of logits, which are turned back into logits. "
        "Default: logits; but scores that all lie in 0..1 are refused until it is said.",
    )
    score_similarity: Literal["cosine", "dot"] = HfArg(
        default="cosine",
        help="What the student's score of a document is: the cosine or the dot product of the two embeddings, divided "
        "by --score_temperature.",
    )
    score_temperature: float | None = HfArg(
        default=None,
        help="tau of the student's scores. Default: 0.05 for cosines, so that scores lie in -20..20; 1 for dot "
        "products.",
    )
    temperature: float = HfArg(
        default=1.0, help="tau of --listwise_weight and of --logits_loss kl; divides the scores of both sides."
    )

    def __post_init__(self):
        super().__post_init__()
        if self.student_score_temperature <= 0:
            raise ValueError(
                f"score_temperature={self.score_temperature}: tau divides the student's scores and must be above 0."
            )

    @property
    def student_score_temperature(self) -> float:
        """`score_temperature`, or its default."""
        if self.score_temperature is not None:
            return self.score_temperature
        return 0.05 if self.score_similarity == "cosine" else 1.0


@dataclass
class CKDTrainingArguments(InfoNCETrainingArguments):
    """`InfoNCETrainingArguments` with what may be a key, and the queue.

    As published: `embedding_weight` with `embedding_loss="mse"` beside it, or without.
    """

    both_directions: bool = HfArg(
        default=False, help="Take the mean with InfoNCE from the teacher to the student. Embeds every text twice."
    )
    student_negatives: bool = HfArg(
        default=False, help="Make the student's own embeddings of other texts negatives, too. Embeds every text twice."
    )
    queue_size: int | None = HfArg(
        default=None,
        help="Teacher embeddings of past steps that are kept as further negatives. Default: 65,536, or as many "
        "as there are training rows if those are fewer. 0 for none.",
    )
    queue_dtype: Literal["auto", "float32", "float16", "bfloat16"] = HfArg(
        default="auto",
        help="Number format in which the queue is kept; comparisons with it are in float32. 'auto': bfloat16 under "
        "--bf16, float16 under --fp16, else float32.",
    )
    fill_queue: bool = HfArg(
        default=False,
        help="Fill the queue before the first step, with the teacher's embeddings of training rows, from "
        "--teacher_cache if there is one. Default: it starts empty.",
    )

    def __post_init__(self):
        super().__post_init__()
        if self.queue_size is not None and self.queue_size < 0:
            raise ValueError(f"queue_size={self.queue_size}: 0 (no queue) or above.")


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
