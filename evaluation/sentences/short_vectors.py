"""Quality of embeddings that are truncated to fewer dimensions and stored in a lower precision."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from ...modeling.encoding import SentenceEncoder
from ...modeling.losses import binary_codes, int8_codes
from ..report import PRECISIONS, Quality, VectorRow


@dataclass(frozen=True)
class ShortEncoder:
    """Stands for a `SentenceEncoder` whose embeddings are quantised and truncated.

    Attributes:
        embed: computes whole embeddings, `[rows, embedding_size]`, from the name of an encoding method and texts.
        dims: number of leading dimensions.
        precision: one of `PRECISIONS`.
        ranges: `[2, embedding_size]`, minimum and maximum of each dimension, for int8.
    """

    embed: Callable[[str, tuple[str, ...]], Tensor]
    dims: int
    precision: str
    ranges: Tensor

    def encode(self, texts: Sequence[str]) -> Tensor:
        """`[rows, dims]`, float32: the embeddings, int8 codes from -128 to 127, or signs with a common scale."""
        return self._stored("encode", texts)

    def encode_query(self, texts: Sequence[str]) -> Tensor:
        """As `encode`, for queries."""
        return self._stored("encode_query", texts)

    def encode_document(self, texts: Sequence[str]) -> Tensor:
        """As `encode`, for documents."""
        return self._stored("encode_document", texts)

    def _stored(self, method: str, texts: Sequence[str]) -> Tensor:
        whole = self.embed(method, tuple(texts))
        if self.precision == "int8":
            whole = int8_codes(whole, self.ranges)
        elif self.precision == "binary":
            whole = binary_codes(whole)
        return whole[:, : self.dims]


def short_vectors(
    model: SentenceEncoder,
    quality: Callable[[ShortEncoder], Quality],
    dims: Sequence[int],
    ranges: Tensor | None,
    texts: Sequence[str],
) -> tuple[VectorRow, ...]:
    """Evaluate a model's embeddings at each number of dimensions and in each precision. Each text is embedded once.

    Args:
        model: the model.
        quality: computes the scores of an encoder.
        dims: numbers of leading dimensions.
        ranges: `[2, embedding_size]`, int8 ranges of the embeddings; None measures them on `texts`.
        texts: texts like those of the evaluation.
    """
    if ranges is None:
        ranges = torch.stack(model.encode(texts).aminmax(dim=0))
    embed = cache(lambda method, texts: getattr(model, method)(texts))
    rows = []
    for each in dims:
        for precision in PRECISIONS:
            rows.append(VectorRow.of(each, precision, quality(ShortEncoder(embed, each, precision, ranges)).scores))
    return tuple(rows)
