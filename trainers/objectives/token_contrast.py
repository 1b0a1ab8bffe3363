"""Contrast of tokens: to know a token's vector in the other model among those of other tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...collators import Batch, fractions, mixed
from ...modeling.encoding import TokenLayout
from ...modeling.losses import LearnedCurvature, draw_negatives, ignored_candidates, token_contrast
from .layers import LayerPairsObjective


@dataclass(frozen=True)
class TokenContrastObjective(LayerPairsObjective):
    """Contrast of hidden states at aligned tokens, averaged over a layer map (Kolesnikova et al. 2022,
    arXiv:2205.02340).

    Negatives come from the same micro-batch, so only those of the same text don't depend on its size.

    Attributes:
        negatives: whose vectors: the `"student"`'s, with the teacher's for anchors; the `"teacher"`'s, with the
            student's for anchors; or `"both"`, with the teacher's for anchors.
        count_of_negatives: how many of each model's; 0 for all.
        same_text: take them from the anchor's text alone.
        unaligned: also take tokens that have no counterpart in the other model.
        temperature: tau, divides the similarities.
        curvature: None for cosines; c for minus the distance in the Poincaré ball of curvature -c. States are divided
            by the root of their width first: after a layer norm they are about 1 long, and well inside the ball.
        learn_curvature: whether c is a parameter.
        seed: of the drawing of negatives.
    """

    name = "token_contrast"
    negatives: str
    count_of_negatives: int
    same_text: bool
    unaligned: bool
    temperature: float
    curvature: float | None
    learn_curvature: bool
    seed: int

    def heads(self):
        learnt = {"curvature": LearnedCurvature(self.curvature)} if self.learn_curvature else {}
        return super().heads() | learnt

    def __call__(self, student, teacher, batch):
        alignment = batch["alignment"]
        sides = {
            "student": (batch["layout"], alignment.student, alignment.of_student),
            "teacher": (batch.get("teacher_layout", batch["layout"]), alignment.teacher, alignment.of_teacher),
        }
        chosen = list(sides) if self.negatives == "both" else [self.negatives]
        rows = sides["teacher"][0].row_ids[alignment.teacher]
        others = {side: self._unaligned(*sides[side][:2]) for side in chosen}
        ignored = torch.cat([self._ignored(batch, rows, sides[side][0], others[side]) for side in chosen], dim=1)
        curvature = student.projected.get("curvature", self.curvature)
        total = 0
        for states in self.states(student, teacher):
            scaled = {side: self._scaled(each) for side, each in zip(sides, states, strict=True)}
            paired = {side: sides[side][2](scaled[side]) for side in sides}
            negatives = torch.cat([part for side in chosen for part in (paired[side], scaled[side][others[side]])])
            anchors, positives = paired["teacher"], paired["student"]
            if self.negatives == "teacher":
                anchors, positives = positives, anchors
            total = total + token_contrast(anchors, positives, negatives, ignored, self.temperature, curvature)
        return total / len(self.pairs)

    def _scaled(self, states: Tensor) -> Tensor:
        return states.float() if self.curvature is None else states.float() / states.shape[-1] ** 0.5

    def _unaligned(self, layout: TokenLayout, aligned: Tensor) -> Tensor:
        """The tokens of one model that no pair holds, `[tokens]`; none unless they are asked for."""
        if not self.unaligned:
            return aligned[:0]
        return torch.ones(layout.tokens, device=aligned.device).index_fill(0, aligned, 0).nonzero().flatten()

    def _ignored(self, batch: Batch, rows: Tensor, layout: TokenLayout, others: Tensor) -> Tensor:
        """Which vectors of one model, those of the pairs and then `others`, are no negatives of which pair's anchor."""
        pairs = torch.arange(len(rows), device=rows.device)
        candidates = torch.arange(len(rows) + len(others), device=rows.device)
        candidate_rows = torch.cat([rows, layout.row_ids[others]])
        ignored = ignored_candidates(pairs, candidates, candidate_rows, same_row=self.same_text)
        if not self.count_of_negatives:
            return ignored
        # Numbered from the beginning of each row, so that draws are the same in any batch.
        starts = torch.searchsorted(rows, rows)
        places = torch.cat([pairs - starts, -1 - layout.positions[others]])
        texts = batch["text_ids"][candidate_rows]
        drawn = mixed(texts[: len(rows), None], places[: len(rows), None], texts, places, self.seed, batch["epoch"])
        return draw_negatives(ignored, self.count_of_negatives, fractions(drawn))
