"""Arguments of the trainers whose loss compares all rows of a step."""

from dataclasses import dataclass
from typing import Literal

from transformers.hf_argparser import HfArg

from ...modeling.losses import LearnedScale
from .distill import DistillTrainingArguments


@dataclass
class InfoNCETrainingArguments(DistillTrainingArguments):
    """`DistillTrainingArguments` with a contrastive objective. Other objectives can be added by their weights."""

    contrastive_weight: float = HfArg(default=1.0, help="Weight of the contrastive objective (InfoNCE).")
    contrastive_temperature: float = HfArg(default=0.05, help="tau of the contrastive objective; divides the cosines.")
    learn_temperature: bool = HfArg(
        default=False, help="Learn tau, starting from --contrastive_temperature. It stays at 0.01 or above."
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

    `contrastive_weight=0` trains on the scores alone.
    """

    margin_weight: float = HfArg(
        default=0.0,
        help="Weight of MarginMSE: the squared difference between the student's and the teacher's margins. A margin "
        "is the score of a query's first document minus that of another document.",
    )
    listwise_weight: float = HfArg(
        default=0.0,
        help="Weight of the KL divergence between the teacher's and the student's distribution over the documents of "
        "a query: the softmax of the scores divided by --temperature.",
    )
    score_activation: Literal["logits", "sigmoid"] | None = HfArg(
        default=None,
        help="Kind of the teacher's scores: 'logits', or 'sigmoid' of logits, which are converted back to logits. "
        "Default: logits; but if all scores are in 0..1, this must be set.",
    )
    score_similarity: Literal["cosine", "dot"] = HfArg(
        default="cosine",
        help="The student's score of a document: the 'cosine' or the 'dot' product of the embeddings of query and "
        "document, divided by --score_temperature.",
    )
    score_temperature: float | None = HfArg(
        default=None,
        help="tau of the student's scores; divides them. Default: 0.05 for cosines, so that scores are in -20..20; "
        "1 for dot products.",
    )
    temperature: float = HfArg(
        default=1.0, help="tau of --listwise_weight and --logits_loss kl; divides the scores of both models."
    )

    def __post_init__(self):
        super().__post_init__()
        if self.teacher_cache:
            raise ValueError(
                "teacher_cache holds the outputs of one text in each row, but the rows of a ContrastiveTrainer are "
                "groups of texts. Leave it out."
            )
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
    """`InfoNCETrainingArguments` with the choice of keys and the queue.

    DistilCSE was published with and without `embedding_weight` (`embedding_loss="mse"`).
    """

    both_directions: bool = HfArg(
        default=False,
        help="Average InfoNCE from student to teacher and from teacher to student. Embeds every text twice.",
    )
    student_negatives: bool = HfArg(
        default=False,
        help="Also use the student's own embeddings of other texts as negatives. Embeds every text twice.",
    )
    queue_size: int | None = HfArg(
        default=None,
        help="Number of teacher embeddings of past steps that are kept as negatives. Default: 65,536, or the number "
        "of training rows if it is less. 0: no queue.",
    )
    queue_dtype: Literal["auto", "float32", "float16", "bfloat16"] = HfArg(
        default="auto",
        help="dtype of the queue; similarities are computed in float32. 'auto': bfloat16 with --bf16, float16 with "
        "--fp16, otherwise float32.",
    )
    fill_queue: bool = HfArg(
        default=False,
        help="Fill the queue before the first step with the teacher's embeddings of training rows (from "
        "--teacher_cache if it is set). Default: the queue starts empty.",
    )

    def __post_init__(self):
        super().__post_init__()
        if self.queue_size is not None and self.queue_size < 0:
            raise ValueError(f"queue_size={self.queue_size} must be 0 (no queue) or above.")


@dataclass
class MCLTrainingArguments(DistillTrainingArguments):
    """`DistillTrainingArguments` with objectives on sentences and their translations, which replace all others."""

    mcl_weight: float = HfArg(
        default=1.0,
        help="Weight of the squared difference between two similarity matrices: the teacher's between all sentences "
        "of a step, and the student's between the sentences and their translations.",
    )
    source_weight: float = HfArg(
        default=1.0,
        help="Weight of the distance (--embedding_loss) between the student's and the teacher's embedding of a "
        "sentence.",
    )
    target_weight: float = HfArg(
        default=1.0,
        help="Weight of the distance (--embedding_loss) between the student's embedding of a translation and the "
        "teacher's embedding of the sentence.",
    )
    embedding_loss: Literal["cosine", "mse"] = HfArg(default="mse", help="Distance of embeddings: 'mse' or 'cosine'.")
