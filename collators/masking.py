"""Words to be guessed: masked language modelling with draws that depend on nothing but seed, epoch and text.

Each draw is a hash of what it is for, so no state has to be saved: a resumed run masks what the uninterrupted one did,
and so do runs with other micro-batches or another number of ranks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..modeling.encoding import TokenLayout
from .batch import ModelInputs, fractions, mixed
from .spans import BatchSpans, SpanBatch

# In the place of an epoch: what is hidden is then the same each time, and other than in training.
EVALUATION = -1
# What becomes of the tokens that are to be guessed (Devlin et al. 2019, arXiv:1810.04805, appendix C.2).
_MASKED, _REPLACED = 0.8, 0.1


@dataclass(frozen=True)
class Filler:
    """What stands in the place of a token that is hidden.

    Attributes:
        mask: id of the mask token.
        ordinary: `[n]`, ids of the tokens that may stand for another: all but special ones.
    """

    mask: int
    ordinary: Tensor

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Filler:
        """Of a tokenizer.

        Raises:
            ValueError: it has no mask token.
        """
        if tokenizer.mask_token_id is None:
            raise ValueError(
                f"{type(tokenizer).__name__} has no mask token, which masked language modelling needs. Add one: "
                "tokenizer.add_special_tokens({'mask_token': '[MASK]'}), before the student is built."
            )
        special = set(tokenizer.all_special_ids)
        return cls(
            tokenizer.mask_token_id,
            torch.tensor([i for i in sorted(tokenizer.get_vocab().values()) if i not in special]),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class MaskedBatch(SpanBatch):
    """Rows whose tokens are hidden in part.

    Attributes:
        hidden: `[n]`, flat indices of the student's tokens to be guessed.
        hidden_tokens: `[n]`, what they were.
        hidden_characters: how many characters they cover, a scalar.
        hidden_pairs: `[m]`, the pairs of the alignment that hold one; None without an alignment.
        epoch: of the draws.
    """

    hidden: Tensor
    hidden_tokens: Tensor
    hidden_characters: Tensor
    hidden_pairs: Tensor | None
    epoch: int


@dataclass(frozen=True)
class Masking:
    """Hides tokens of a batch of `SpanCollator`.

    Draws are made on the host, from the batch as it was collated, and moved to where the batch is: on a GPU, to find
    out how many tokens are hidden would be to wait for it.

    What is drawn is a span, or a word, so that student and teacher lose the same characters.

    Attributes:
        chances: `[student's vocabulary]`, how likely each token is to be drawn; a span's is the mean of its tokens'.
        student: what stands for the student's hidden tokens.
        teacher: likewise for the teacher's; None if it reads the whole text.
        whole_words: draw words that whitespace separates, rather than spans.
        seed: of all draws.
    """

    chances: Tensor
    student: Filler
    teacher: Filler | None
    whole_words: bool
    seed: int

    def __call__(self, batch: SpanBatch, epoch: int) -> MaskedBatch:
        """The batch with hidden tokens. Each epoch has draws of its own."""
        host, device = batch.on_host.batch, batch.layout.lengths.device
        spans, layout = host.spans, host.layout
        tokens = layout.flatten(host.student["input_ids"])
        units = spans.words if self.whole_words else spans.places
        drawn = (self._numbers(epoch, 0, spans.texts, units) < self._chances(tokens, spans, units)) & (spans.words >= 0)
        fate = torch.where(drawn, self._numbers(epoch, 1, spans.texts, units), 1)
        hidden = _of_tokens(drawn, spans.student, False).nonzero().flatten()
        hidden_pairs = None
        if host.alignment is not None:
            marked = torch.zeros(layout.tokens).index_fill(0, hidden, 1)
            hidden_pairs = _moved((host.alignment.sums(marked) > 0).nonzero().flatten(), device)
        seen = self._hide(host.student, layout, spans.texts, spans.student, fate, epoch, self.student)
        made = replace(batch, student=batch.student | {"input_ids": _moved(seen, device)})
        if self.teacher is not None and batch.teacher is not None:
            owners = spans.student if spans.teacher is None else spans.teacher
            seen = self._hide(host.teacher, host.teacher_layout, spans.texts, owners, fate, epoch, self.teacher)
            made = replace(made, teacher=batch.teacher | {"input_ids": _moved(seen, device)})
        elif self.teacher is None and batch.teacher is None:  # it reads the student's tokens, but all of them
            made = replace(made, teacher=batch.student, teacher_layout=batch.layout)
        return made.extended(
            MaskedBatch,
            hidden=_moved(hidden, device),
            hidden_tokens=_moved(tokens[hidden], device),
            hidden_characters=_moved((spans.characters * drawn).sum(), device),
            hidden_pairs=hidden_pairs,
            epoch=epoch,
        )

    def _chances(self, tokens: Tensor, spans: BatchSpans, units: Tensor) -> Tensor:
        """How likely each span's unit is to be drawn, `[spans]`: the mean over the unit's tokens."""
        begins = torch.ones_like(units, dtype=torch.bool)
        begins[1:] = (units[1:] != units[:-1]) | (spans.texts[1:] != spans.texts[:-1])
        unit_of_span = begins.cumsum(0) - 1
        known = spans.student >= 0
        owners = unit_of_span[spans.student].where(known, 0)
        chances = self.chances[tokens]
        sums, counts = (
            torch.zeros(len(spans), dtype=chances.dtype).index_add(0, owners, values * known)
            for values in (chances, torch.ones_like(chances))
        )
        return (sums / counts.clamp_min(1))[unit_of_span]

    def _hide(
        self,
        inputs: ModelInputs,
        layout: TokenLayout,
        texts: Tensor,
        spans: Tensor,
        fate: Tensor,
        epoch: int,
        filler: Filler,
    ) -> Tensor:
        """The ids that one model reads, with the tokens of the drawn spans masked, replaced, or left."""
        tokens = layout.flatten(inputs["input_ids"])
        fate, ordinary = _of_tokens(fate, spans, 1), filler.ordinary
        numbers = self._numbers(epoch, 2, _of_tokens(texts, spans, 0), layout.positions)
        others = ordinary[(numbers * len(ordinary)).long()]
        seen = torch.where(fate < _MASKED, filler.mask, torch.where(fate < _MASKED + _REPLACED, others, tokens))
        return layout.put_back(inputs["input_ids"], seen)

    def _numbers(self, epoch: int, purpose: int, texts: Tensor, places: Tensor) -> Tensor:
        """A number in 0..1 for each place in a text, `[n]`, float64."""
        return fractions(mixed(texts, places, self.seed, epoch, purpose))


def masking_chances(counts: Tensor | None, vocabulary: int, share: float, smoothing: float) -> Tensor:
    """How likely each token is to be hidden, `[vocabulary]`, so that `share` of a text's tokens are.

    Rare tokens are hidden more often than frequent ones: in proportion to their count to the power of minus
    `smoothing`, at most always (Sanh et al. 2019, arXiv:1910.01108, after XLM; here each token is drawn by itself).

    Args:
        counts: `[vocabulary]`, how often each token occurs in the text; only looked at with smoothing.
        vocabulary: how many tokens there are.
        share: 0..1.
        smoothing: 0 for all alike, 0.7 for DistilBERT's.
    """
    if not smoothing:
        return torch.full((vocabulary,), share, dtype=torch.float64)
    counts = counts.double()
    weights, shares = counts.clamp_min(1) ** -smoothing, counts / counts.sum()
    low, high = 0.0, float(1 / weights.min())
    for _ in range(64):  # what is cut off at 1 is made up for by the others: the factor is found by halving
        factor = (low + high) / 2
        too_few = ((factor * weights).clamp_max(1) * shares).sum() < share
        low, high = (factor, high) if too_few else (low, factor)
    return (high * weights).clamp_max(1)


def _of_tokens(values: Tensor, spans: Tensor, missing: float) -> Tensor:
    """What belongs to each token, of what belongs to each span."""
    return torch.where(spans >= 0, values[spans], missing)


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """On a device, without waiting for it: CUDA copies so from pinned memory alone."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)
