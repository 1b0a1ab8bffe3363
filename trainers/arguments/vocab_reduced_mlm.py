"""Arguments of distillation into another vocabulary."""

from dataclasses import dataclass
from typing import Literal

from transformers.hf_argparser import HfArg

from ...modeling.losses import LearnedCurvature
from .distill import DistillTrainingArguments


@dataclass
class VocabReducedMLMTrainingArguments(DistillTrainingArguments):
    """`DistillTrainingArguments` with masked language modelling, and distillation across two vocabularies."""

    mlm_weight: float = HfArg(
        default=0.5, help="Weight of the cross-entropy of the tokens that are hidden from the student."
    )
    vocabulary_weight: float = HfArg(
        default=2.0, help="Weight of the divergence from the teacher's distribution over its vocabulary."
    )
    vocabulary_loss: Literal["match", "reduce", "reduce_map"] = HfArg(
        default="reduce",
        help="'match': at tokens that cover the same characters on both sides, over the tokens that both "
        "vocabularies hold. 'reduce': also where several of the student's tokens make one of the teacher's. "
        "'reduce_map': likewise, over all tokens of the teacher's that the student can spell.",
    )
    piece_logits: Literal["sum", "mean"] = HfArg(
        default="mean",
        help="What is made of the logits at those of the student's tokens that are one of the teacher's.",
    )
    map_logits: Literal["sum", "logsumexp"] = HfArg(
        default="logsumexp",
        help="With 'reduce_map', a token's logit of those of its pieces: their 'sum', or 'logsumexp', which "
        "adds up their probabilities.",
    )
    vocabulary_tokens: Literal["all", "hidden"] = HfArg(
        default="all", help="Compare distributions at all tokens, or at the hidden ones alone, which is much cheaper."
    )
    mask_share: float = HfArg(default=0.15, help="Share of the tokens that are hidden, 0 to 1.")
    mask_smoothing: float = HfArg(
        default=0.7,
        help="Hide rare tokens more often in training: in proportion to their count to the power of minus this. "
        "0: all alike.",
    )
    whole_words: bool = HfArg(
        default=False, help="Hide whole words, rather than the shortest stretches that both tokenizers cut."
    )
    teacher_reads: Literal["masked", "all"] = HfArg(
        default="masked",
        help="What the teacher reads: the text with the same characters 'masked', so that it guesses what the "
        "student has to; or 'all' of it, as published.",
    )
    contrast_weight: float = HfArg(
        default=0.0,
        help="Weight of the contrast of tokens: a token's hidden state in one model is to be told from those of "
        "other tokens by the other model's. Over --layer_map, as --hidden_weight.",
    )
    contrast_space: Literal["cosine", "hyperbolic"] = HfArg(
        default="cosine", help="Compare by 'cosine', or by minus the distance in the Poincaré ball ('hyperbolic')."
    )
    contrast_temperature: float = HfArg(default=0.1, help="tau of the contrast; divides similarities.")
    negatives: Literal["student", "teacher", "both"] = HfArg(
        default="student", help="Whose vectors of other tokens a token is to be told from."
    )
    negative_count: int = HfArg(default=0, help="How many of each model's, drawn anew in each epoch. 0: all there are.")
    negatives_within: Literal["text", "batch"] = HfArg(
        default="batch",
        help="Take them from the same text, or from all texts of a micro-batch, whose size then matters.",
    )
    unaligned_negatives: bool = HfArg(
        default=False, help="Also take tokens that have no counterpart in the other model."
    )
    curvature: float = HfArg(
        default=1.0, help="c of the Poincaré ball. `retort curvature` estimates it from a teacher."
    )
    learn_curvature: bool = HfArg(default=False, help="Train c, from --curvature on.")

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.mask_share < 1:
            raise ValueError(f"mask_share={self.mask_share}: the share of hidden tokens is between 0 and 1.")
        if self.mask_smoothing < 0:
            raise ValueError(f"mask_smoothing={self.mask_smoothing} would hide frequent tokens most; give 0 or more.")
        for name in ("contrast_temperature", "curvature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0.")
        lowest, highest = LearnedCurvature.bounds
        if self.contrast_space == "hyperbolic" and not lowest <= self.curvature <= highest:
            raise ValueError(
                f"curvature={self.curvature}: float32 tells points of the Poincaré ball apart between {lowest} and "
                f"{highest}. Give one there."
            )
        if self.teacher_cache:
            raise ValueError(
                "teacher_cache holds no logits over a vocabulary, and texts whose words are hidden differ in each "
                "epoch. Leave it out."
            )
