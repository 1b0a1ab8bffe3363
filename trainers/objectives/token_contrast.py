"""Contrastive objective on aligned tokens of student and teacher."""

import torch
from torch import Tensor

from ...collators import MaskedBatch, fractions, mixed
from ...modeling.encoding import EncoderOutput, TokenLayout
from ...modeling.losses import LearnedCurvature, draw_negatives, ignored_candidates, token_contrast
from ..arguments import VocabReducedMLMTrainingArguments
from .layers import HiddenPairsObjective


class TokenContrastObjective(HiddenPairsObjective):
    """InfoNCE between hidden states of aligned tokens, averaged over a layer map (Kolesnikova et al. 2022,
    arXiv:2205.02340).

    Negatives come from the micro-batch. With `negatives_within="batch"`, the default, the gradient depends on its size.

    If the negatives are the teacher's hidden states, the anchors are the student's; otherwise they are the teacher's.

    With `contrast_space="hyperbolic"`, the similarity is minus the distance in the Poincaré ball of curvature -c.
    Vectors are divided by the root of their width first. After a layer norm their length is then about 1, which is well
    inside the ball.

    Args:
        args: arguments with the temperature, the choice of negatives, and the space.
    """

    name = "token_contrast"
    description = "contrast of tokens with those of the other model"
    citation = "kolesnikova2022vocabulary"

    def __init__(self, weight, pairs, student_size, teacher_size, kind, args: VocabReducedMLMTrainingArguments):
        super().__init__(weight, pairs, student_size, teacher_size, kind)
        self.args = args
        self.compares_rows = args.negatives_within == "batch"
        self.curvature = LearnedCurvature(args.curvature) if self.hyperbolic and args.learn_curvature else None

    @property
    def hyperbolic(self) -> bool:
        """Whether vectors are compared in the Poincaré ball."""
        return self.args.contrast_space == "hyperbolic"

    def forward(self, student: EncoderOutput) -> tuple[list[Tensor], Tensor | float]:
        """The student's states of each pair, `[tokens, teacher_size]`; and c, which is only used in a hyperbolic
        space."""
        return super().forward(student), self.args.curvature if self.curvature is None else self.curvature()

    def values(self, ours, teacher, batch: MaskedBatch):
        (states, curvature), alignment = ours, batch.alignment
        _, teacher_layout = batch.of_teacher
        sides = {
            "student": (batch.layout, alignment.of_student),
            "teacher": (teacher_layout, alignment.of_teacher),
        }
        chosen = list(sides) if self.args.negatives == "both" else [self.args.negatives]
        rows = sides["teacher"][0].row_ids[alignment.teacher]
        none = alignment.teacher[:0]
        others = {side: batch.unaligned[side] if self.args.unaligned_negatives else none for side in chosen}
        ignored = torch.cat([self._ignored(batch, rows, sides[side][0], others[side]) for side in chosen], dim=1)
        total = 0
        for pair in zip(states, self.teacher_states(teacher), strict=True):
            scaled = {side: self._scaled(each) for side, each in zip(sides, pair, strict=True)}
            paired = {side: sides[side][1](scaled[side]) for side in sides}
            negatives = torch.cat([part for side in chosen for part in (paired[side], scaled[side][others[side]])])
            anchors, positives = paired["teacher"], paired["student"]
            if self.args.negatives == "teacher":
                anchors, positives = positives, anchors
            tau = self.args.contrast_temperature
            total = total + token_contrast(
                anchors, positives, negatives, ignored, tau, curvature if self.hyperbolic else None
            )
        return total / len(self.pairs)

    def _scaled(self, states: Tensor) -> Tensor:
        return states.float() / states.shape[-1] ** 0.5 if self.hyperbolic else states.float()

    def _ignored(self, batch: MaskedBatch, rows: Tensor, layout: TokenLayout, others: Tensor) -> Tensor:
        """Mask of the vectors of one model (those of the pairs, then `others`) that are not negatives of an anchor."""
        pairs = torch.arange(len(rows), device=rows.device)
        candidates = torch.arange(len(rows) + len(others), device=rows.device)
        candidate_rows = torch.cat([rows, layout.row_ids[others]])
        same_row = self.args.negatives_within == "text"
        ignored = ignored_candidates(pairs, candidates, candidate_rows, same_row=same_row)
        if not self.args.negative_count:
            return ignored
        # Numbered from the beginning of each row, so that the same negatives are drawn in any batch.
        starts = torch.searchsorted(rows, rows)
        places = torch.cat([pairs - starts, -1 - layout.positions[others]])
        texts, seed = batch.row_texts[candidate_rows], self.args.seed
        drawn = mixed(texts[: len(rows), None], places[: len(rows), None], texts, places, seed, batch.epoch)
        return draw_negatives(ignored, self.args.negative_count, fractions(drawn))
