"""Which rows or tokens of a batch have labels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..modeling.encoding import TensorGroup, TokenLayout
from ..modeling.losses import IGNORED_LABEL


@dataclass(frozen=True)
class Labelled(TensorGroup):
    """The labels of a batch and where they belong.

    A collator makes it: on a GPU, to find out how many labels there are is to wait for the device.

    Attributes:
        labels: of the n rows or tokens that have one: `[n]`, int64 for classes, float32 for numbers; `[n, values]`,
            float32, of rows that may have several classes.
        places: `[n]`, the rows, or the flat indices of the tokens, that they belong to; ascending.
        compared: flat indices of the tokens at which a student is compared with a teacher: those with a label, and all
            tokens of a row without any. None where labels belong to rows.
    """

    labels: Tensor
    places: Tensor
    compared: Tensor | None

    @classmethod
    def of(cls, labels: Tensor, layout: TokenLayout) -> Labelled:
        """Of labels as a batch holds them.

        Args:
            labels: `[rows]`, `[rows, values]` of floats, or `[rows, width]`; -100 is none, but as one number it is one.
                Of several floats, all must be -100 for a row to have no label.
            layout: the rows.
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
