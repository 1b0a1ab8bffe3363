"""The rows or tokens of a batch that have labels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..modeling.encoding import TensorGroup, TokenLayout
from ..modeling.losses import IGNORED_LABEL


@dataclass(frozen=True)
class Labelled(TensorGroup):
    """The labels of a batch without -100, and the indices of their rows or tokens.

    The collator makes it, since counting labels on a GPU would wait for the device.

    Attributes:
        labels: labels of the n labelled rows or tokens: `[n]`, int64 for classes, float32 for numbers; `[n, values]`,
            float32, for rows that may have several classes.
        places: `[n]`, indices of the rows, or flat indices of the tokens, with these labels; ascending.
        compared: flat indices of the tokens at which student and teacher are compared: labelled tokens, and all tokens
            of rows without labels. None if labels belong to rows.
    """

    labels: Tensor
    places: Tensor
    compared: Tensor | None

    @classmethod
    def of(cls, labels: Tensor, layout: TokenLayout) -> Labelled:
        """Find the labels of a batch.

        Args:
            labels: `[rows]`, `[rows, values]` of floats, or `[rows, width]`. -100 means no label, except in a single
                float per row. A row of several floats has no label if all are -100.
            layout: layout of the rows.
        """
        known = (labels != IGNORED_LABEL) | (labels.is_floating_point() and labels.dim() == 1)
        compared = None
        if labels.dim() == 2 and labels.is_floating_point():
            known = known.any(-1)
        elif labels.dim() == 2:
            compared = layout.unpad(known | ~known.any(1, keepdim=True)).nonzero().flatten()
            labels, known = layout.unpad(labels), layout.unpad(known)
        places = known.nonzero().flatten()
        return cls(labels[places], places, compared)
