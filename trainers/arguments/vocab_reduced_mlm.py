"""Arguments of distillation with another vocabulary."""

from dataclasses import dataclass
from typing import Literal

from transformers.hf_argparser import HfArg

from ...modeling.losses import LearnedCurvature
from .distill import DistillTrainingArguments


@dataclass
class VocabReducedMLMTrainingArguments(DistillTrainingArguments):
    """`DistillTrainingArguments` with masked language modelling, and distillation across two vocabularies."""

    mlm_weight: float = HfArg(default=0.5, help="Weight of the cross-entropy of the student's masked tokens.")
    vocabulary_weight: float = HfArg(
        default=2.0, help="Weight of the KL divergence from the teacher's distribution over its vocabulary."
    )
    vocabulary_loss: Literal["match", "reduce", "reduce_map"] = HfArg(
        default="reduce",
        help="Positions and tokens that are compared. 'match': positions where a student token and a teacher token "
        "cover the same characters, over the tokens in both vocabularies. 'reduce': also positions where several "
        "student tokens cover one teacher token. 'reduce_map': as 'reduce', but over all teacher tokens that student "
        "tokens can spell.",
    )
    piece_logits: Literal["sum", "mean"] = HfArg(
        default="mean",
        help="Where several student tokens cover one teacher token: reduce their logits by 'sum' or 'mean'.",
    )
    map_logits: Literal["sum", "logsumexp"] = HfArg(
        default="logsumexp",
        help="With 'reduce_map', the logit of a teacher token from those of the student tokens that spell it: their "
        "'sum', or 'logsumexp', which adds up their probabilities.",
    )
    vocabulary_tokens: Literal["all", "hidden"] = HfArg(
        default="all",
        help="Compare distributions at 'all' tokens, or only at masked tokens ('hidden'), which is much cheaper.",
    )
    mask_share: float = HfArg(default=0.15, help="Share of the tokens that are masked, 0 to 1.")
    mask_smoothing: float = HfArg(
        default=0.7,
        help="Mask rare tokens more often in training: with a probability in proportion to count ** -mask_smoothing. "
        "0: all tokens are equally likely.",
    )
    whole_words: bool = HfArg(
        default=False,
        help="Mask whole words. Default: mask the shortest spans that begin and end at token boundaries of both "
        "tokenizers.",
    )
    teacher_reads: Literal["masked", "all"] = HfArg(
        default="masked",
        help="Input of the teacher: 'masked', the text with the same characters masked as for the student; or 'all', "
        "the whole text, as published.",
    )
    contrast_weight: float = HfArg(
        default=0.0,
        help="Weight of the contrastive loss on tokens: InfoNCE between the hidden states of student and teacher of "
        "the same token, against those of other tokens. Layers are paired by --layer_map.",
    )
    contrast_space: Literal["cosine", "hyperbolic"] = HfArg(
        default="cosine",
        help="Similarity of tokens: 'cosine', or minus the distance in the Poincaré ball ('hyperbolic').",
    )
    contrast_temperature: float = HfArg(default=0.1, help="tau of --contrast_weight; divides the similarities.")
    negatives: Literal["student", "teacher", "both"] = HfArg(
        default="student", help="Model whose hidden states of other tokens are the negatives."
    )
    negative_count: int = HfArg(
        default=0, help="Number of negatives of each model, drawn again in each epoch. 0: all other tokens."
    )
    negatives_within: Literal["text", "batch"] = HfArg(
        default="batch",
        help="Take negatives from the same 'text', or from all texts of a micro-'batch'. With 'batch' the gradient "
        "depends on the size of the micro-batch.",
    )
    unaligned_negatives: bool = HfArg(
        default=False, help="Also use tokens without a counterpart in the other model as negatives."
    )
    curvature: float = HfArg(
        default=1.0, help="c of the Poincaré ball. `retort curvature` estimates it from a teacher."
    )
    learn_curvature: bool = HfArg(default=False, help="Learn c, starting from --curvature.")

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.mask_share < 1:
            raise ValueError(f"mask_share={self.mask_share}: the share of masked tokens must be between 0 and 1.")
        if self.mask_smoothing < 0:
            raise ValueError(
                f"mask_smoothing={self.mask_smoothing} would mask frequent tokens more often. Set 0 or more."
            )
        for name in ("contrast_temperature", "curvature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0.")
        lowest, highest = LearnedCurvature.bounds
        if self.contrast_space == "hyperbolic" and not lowest <= self.curvature <= highest:
            raise ValueError(
                f"curvature={self.curvature}: float32 is precise enough for a Poincaré ball only between {lowest} and "
                f"{highest}. Set a curvature in this range."
            )
        if self.teacher_cache:
            raise ValueError(
                "teacher_cache stores no logits over a vocabulary, and the masked texts differ in each epoch. Leave it "
                "out."
            )
