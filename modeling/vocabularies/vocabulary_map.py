"""Which pieces of a student's vocabulary make up which tokens of the teacher's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .spelling import Spelling


@dataclass(frozen=True)
class IndexBags:
    """Sets of row indices, one after another, as `embedding_bag` takes them.

    Attributes:
        members: `[all members]`, the indices.
        starts: `[sets]`, where each set's members begin.
    """

    members: Tensor
    starts: Tensor

    @classmethod
    def of(cls, members: Tensor, owners: Tensor, count: int) -> IndexBags:
        """`count` sets of members `[n]`, by the set that owns each, `[n]`."""
        sizes = torch.bincount(owners, minlength=count)
        return cls(members[torch.argsort(owners, stable=True)], sizes.cumsum(0) - sizes)

    def sums(self, rows: Tensor) -> Tensor:
        """The sum of each set's rows, `[rows, n]` -> `[sets, n]`."""
        return F.embedding_bag(self.members, rows, self.starts, mode="sum")

    def to(self, device: torch.device | str) -> IndexBags:
        """Move the indices to a device."""
        return IndexBags(self.members.to(device), self.starts.to(device))


@dataclass(frozen=True)
class VocabularyMap:
    """From the logits of a student's pieces to logits of the teacher's tokens that they spell.

    Attributes:
        tokens: `[k]`, ids of the teacher's tokens.
        spelt_by: for each of these, ids of the student's pieces.
        part_of: for each of the student's pieces, which of the k tokens it is a part of.
        joint: what makes a token's logit of those of its pieces: their `"sum"`, or their `"logsumexp"`, which adds up
            their probabilities.
    """

    tokens: Tensor
    spelt_by: IndexBags
    part_of: IndexBags
    joint: Literal["sum", "logsumexp"] = "sum"

    @classmethod
    def of(cls, spelling: Spelling, vocabulary: int, joint: Literal["sum", "logsumexp"] = "sum") -> VocabularyMap:
        """All tokens of the teacher's that the student can spell.

        Args:
            spelling: of the teacher's tokens by the student's pieces.
            vocabulary: how many pieces the student has.
            joint: see the attributes.

        Raises:
            ValueError: no token can be spelled.
        """
        tokens = spelling.counts.nonzero().flatten()
        if not len(tokens):
            raise ValueError(
                "The student's tokenizer can't spell a single token of the teacher's. Are these the right tokenizers?"
            )
        owners = torch.repeat_interleave(torch.arange(len(tokens)), spelling.counts[tokens])
        spelt_by = IndexBags.of(spelling.pieces, owners, len(tokens))
        return cls(tokens, spelt_by, IndexBags.of(owners, spelling.pieces, vocabulary), joint)

    @classmethod
    def shared(cls, spelling: Spelling, vocabulary: int) -> VocabularyMap:
        """The tokens that both have: those of the teacher's that are one piece of the student's.

        Of several tokens that come to the same piece (`The` and `the` in a vocabulary without capitals), the first by
        id stands for it.

        Raises:
            ValueError: there is none.
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
        """How many of the teacher's tokens there are."""
        return len(self.tokens)

    def of_tokens(self, logits: Tensor) -> Tensor:
        """Logits of the student's pieces, `[pieces, n]` -> of the teacher's tokens, `[k, n]`.

        With `"logsumexp"`, a token whose pieces are all e^87 times less likely than the likeliest piece counts as e^87
        times less likely: more than float32 can tell.
        """
        if self.joint == "sum":
            return _Sums.apply(logits, self)
        highest = logits.detach().amax(0)
        likelihoods = _Sums.apply((logits - highest).exp(), self)
        return likelihoods.clamp_min(torch.finfo(torch.float32).tiny).log() + highest

    def to(self, device: torch.device | str) -> VocabularyMap:
        """Move the tables to a device."""
        return VocabularyMap(self.tokens.to(device), self.spelt_by.to(device), self.part_of.to(device), self.joint)


class _Sums(torch.autograd.Function):
    """Sums over the pieces of each token. Its gradient is a sum over the tokens of each piece: with a table for that,
    it is 30 times as fast as that of `embedding_bag` itself, and always the same on a GPU."""

    @staticmethod
    def forward(ctx, logits: Tensor, vocabulary: VocabularyMap) -> Tensor:
        ctx.part_of = vocabulary.part_of
        return vocabulary.spelt_by.sums(logits)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.part_of.sums(gradient.contiguous()), None
