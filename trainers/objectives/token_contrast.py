"""Contrast of tokens: to know a token's vector in the other model among those of other tokens."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...collators import Batch, fractions, mixed
from ...modeling.encoding import TokenLayout
from ...modeling.losses import LearnedCurvature, draw_negatives, ignored_candidates, token_contrast
from ..arguments import VocabReducedMLMTrainingArguments
from .layers import HiddenPairsObjective


@dataclass(frozen=True)
class TokenContrastObjective(HiddenPairsObjective):
    """Contrast of hidden states at aligned tokens, averaged over a layer map (Kolesnikova et al. 2022,
    arXiv:2205.02340).

    Negatives come from the same micro-batch, so only those of the same text don't depend on its size.

    Anchors are the student's vectors where negatives are the teacher's, and else the teacher's.

    In a hyperbolic space, vectors are compared by minus their distance in the Poincaré ball of curvature -c. They are
    divided by the root of their width first: after a layer norm they are about 1 long, and well inside the ball.
    """

    name = "token_contrast"
    description = "knowing a token's hidden state in the other model among others"
    citation = "kolesnikova2022vocabulary"
    args: VocabReducedMLMTrainingArguments

    @property
    def hyperbolic(self) -> bool:
        """Whether vectors are compared in the Poincaré ball."""
        return self.args.contrast_space == "hyperbolic"

    @property
    def compares_rows(self):
        return self.args.negatives_within == "batch"

    def heads(self):
        learnt = self.hyperbolic and self.args.learn_curvature
        return super().heads() | ({"curvature": LearnedCurvature(self.args.curvature)} if learnt else {})

    def __call__(self, student, teacher, batch):
        alignment = batch["alignment"]
        sides = {
            "student": (batch["layout"], alignment.of_student),
            "teacher": (batch.get("teacher_layout", batch["layout"]), alignment.of_teacher),
        }
        chosen = list(sides) if self.args.negatives == "both" else [self.args.negatives]
        rows = sides["teacher"][0].row_ids[alignment.teacher]
        none = alignment.teacher[:0]
        others = {side: batch["unaligned"][side] if self.args.unaligned_negatives else none for side in chosen}
        ignored = torch.cat([self._ignored(batch, rows, sides[side][0], others[side]) for side in chosen], dim=1)
        curvature = student.projected.get("curvature", self.args.curvature) if self.hyperbolic else None
        total = 0
        for states in self.states(student, teacher):
            scaled = {side: self._scaled(each) for side, each in zip(sides, states, strict=True)}
            paired = {side: sides[side][1](scaled[side]) for side in sides}
            negatives = torch.cat([part for side in chosen for part in (paired[side], scaled[side][others[side]])])
            anchors, positives = paired["teacher"], paired["student"]
            if self.args.negatives == "teacher":
                anchors, positives = positives, anchors
            tau = self.args.contrast_temperature
            total = total + token_contrast(anchors, positives, negatives, ignored, tau, curvature)
        return total / len(self.pairs)

    def _scaled(self, states: Tensor) -> Tensor:
        return states.float() / states.shape[-1] ** 0.5 if self.hyperbolic else states.float()

    def _ignored(self, batch: Batch, rows: Tensor, layout: TokenLayout, others: Tensor) -> Tensor:
        """Which vectors of one model, those of the pairs and then `others`, are no negatives of which pair's anchor."""
        pairs = torch.arange(len(rows), device=rows.device)
        candidates = torch.arange(len(rows) + len(others), device=rows.device)
        candidate_rows = torch.cat([rows, layout.row_ids[others]])
        same_row = self.args.negatives_within == "text"
        ignored = ignored_candidates(pairs, candidates, candidate_rows, same_row=same_row)
        if not self.args.negative_count:
            return ignored
        # Numbered from the beginning of each row, so that draws are the same in any batch.
        starts = torch.searchsorted(rows, rows)
        places = torch.cat([pairs - starts, -1 - layout.positions[others]])
        texts, seed = batch["text_ids"][candidate_rows], self.args.seed
        drawn = mixed(texts[: len(rows), None], places[: len(rows), None], texts, places, seed, batch["epoch"])
        return draw_negatives(ignored, self.args.negative_count, fractions(drawn))
