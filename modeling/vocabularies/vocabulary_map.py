"""Maps logits of a student's pieces to logits of the teacher's tokens that they spell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..encoding import TensorGroup
from .spelling import Spelling


@dataclass(frozen=True)
class IndexBags(TensorGroup):
    """Sets of row indices in the format of `embedding_bag`.

    Attributes:
        members: `[all members]`, the indices, set by set.
        starts: `[sets]`, the start of each set in `members`.
    """

    members: Tensor
    starts: Tensor

    @classmethod
    def of(cls, members: Tensor, owners: Tensor, count: int) -> IndexBags:
        """Group members `[n]` into `count` sets; `owners` `[n]` is the set of each member."""
        sizes = torch.bincount(owners, minlength=count)
        return cls(members[torch.argsort(owners, stable=True)], sizes.cumsum(0) - sizes)

    def sums(self, rows: Tensor) -> Tensor:
        """The sum of each set's rows, `[rows, n]` -> `[sets, n]`."""
        return F.embedding_bag(self.members, rows, self.starts, mode="sum")


@dataclass(frozen=True)
class VocabularyMap(TensorGroup):
    """Maps logits of a student's pieces to logits of the teacher's tokens that they spell.

    Attributes:
        tokens: `[k]`, ids of the teacher's tokens.
        spelt_by: for each of these tokens, ids of the student's pieces that spell it.
        part_of: for each of the student's pieces, indices of the k tokens that it is a part of.
        joint: how a token's logit is computed from those of its pieces: their `"sum"`, or their `"logsumexp"`, which
            sums probabilities.
    """

    tokens: Tensor
    spelt_by: IndexBags
    part_of: IndexBags
    joint: Literal["sum", "logsumexp"] = "sum"

    @classmethod
    def of(cls, spelling: Spelling, vocabulary: int, joint: Literal["sum", "logsumexp"] = "sum") -> VocabularyMap:
        """The map of all teacher tokens that the student can spell.

        Args:
            spelling: the spelling of the teacher's tokens by the student's pieces.
            vocabulary: number of the student's pieces.
            joint: see the attributes.

        Raises:
            ValueError: no token can be spelled.
        """
        tokens = spelling.counts.nonzero().flatten()
        if not len(tokens):
            raise ValueError(
                "The student's tokenizer can't spell any of the teacher's tokens. Are these the right tokenizers?"
            )
        owners = torch.repeat_interleave(torch.arange(len(tokens)), spelling.counts[tokens])
        spelt_by = IndexBags.of(spelling.pieces, owners, len(tokens))
        return cls(tokens, spelt_by, IndexBags.of(owners, spelling.pieces, vocabulary), joint)

    @classmethod
    def shared(cls, spelling: Spelling, vocabulary: int) -> VocabularyMap:
        """The map of the shared tokens: teacher tokens that are spelled by one piece of the student.

        If several tokens are spelled by the same piece (`The` and `the` in an uncased vocabulary), only the one with
        the lowest id is kept.

        Raises:
            ValueError: there are no shared tokens.
        """
        single = spelling.counts == 1
        if not single.any():
            raise ValueError(
                "The two tokenizers have no token in common. Compare them by a map of the vocabulary "
                "(vocabulary_loss='reduce_map')."
            )
        tokens = single.nonzero().flatten()
        pieces = spelling.pieces[spelling.counts.cumsum(0)[tokens] - 1]
        first = torch.full((vocabulary,), len(single)).scatter_reduce(0, pieces, tokens, "amin")
        is_first = first[pieces] == tokens
        counts = torch.zeros_like(spelling.counts).index_fill(0, tokens[is_first], 1)
        return cls.of(Spelling(pieces[is_first], counts), vocabulary)

    def __len__(self) -> int:
        """Number of the teacher's tokens."""
        return len(self.tokens)

    def of_tokens(self, logits: Tensor) -> Tensor:
        """Map logits of the student's pieces, `[pieces, n]`, to logits of the teacher's tokens, `[k, n]`.

        With `"logsumexp"`, a token's likelihood is at least e^-87 times that of the likeliest piece, the limit of
        float32.
        """
        if self.joint == "sum":
            return _Sums.apply(logits, self)
        highest = logits.detach().amax(0)
        likelihoods = _Sums.apply((logits - highest).exp(), self)
        return likelihoods.clamp_min(torch.finfo(torch.float32).tiny).log() + highest


class _Sums(torch.autograd.Function):
    """Sums over the pieces of each token. The gradient is a sum over the tokens of each piece. With a precomputed table
    it is 30 times as fast as the gradient of `embedding_bag`, and deterministic on a GPU."""

    @staticmethod
    def forward(ctx, logits: Tensor, vocabulary: VocabularyMap) -> Tensor:
        ctx.part_of = vocabulary.part_of
        return vocabulary.spelt_by.sums(logits)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.part_of.sums(gradient.contiguous()), None
