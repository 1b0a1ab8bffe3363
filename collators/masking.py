"""Masking for masked language modelling, which only depends on seed, epoch and text.

Random numbers are hashes, so no state has to be saved. A resumed run masks the same tokens as an uninterrupted one, and
so do runs with other micro-batches or another number of ranks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..modeling.encoding import TokenLayout
from .batch import ModelInputs, fractions, mixed
from .spans import BatchSpans, SpanBatch

# Used as the epoch in evaluation: the same tokens are masked each time, and others than in training.
EVALUATION = -1
# Shares of the selected tokens that are masked or replaced (Devlin et al. 2019, arXiv:1810.04805, appendix C.2).
_MASKED, _REPLACED = 0.8, 0.1


@dataclass(frozen=True)
class Filler:
    """Tokens that replace masked tokens.

    Attributes:
        mask: id of the mask token.
        ordinary: `[n]`, ids of the tokens that may replace another: all except special tokens.
    """

    mask: int
    ordinary: Tensor

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Filler:
        """The mask token and the other tokens of a tokenizer.

        Raises:
            ValueError: the tokenizer has no mask token.
        """
        if tokenizer.mask_token_id is None:
            raise ValueError(
                f"{type(tokenizer).__name__} has no mask token, which masked language modelling needs. Add one: "
                "tokenizer.add_special_tokens({'mask_token': '[MASK]'}), before the student is built."
            )
        ordinary = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
        return cls(tokenizer.mask_token_id, torch.tensor(ordinary))


@dataclass(frozen=True, eq=False, kw_only=True)
class MaskedBatch(SpanBatch):
    """Rows with masked tokens.

    Attributes:
        hidden: `[n]`, flat indices of the student's masked tokens.
        hidden_tokens: `[n]`, their original ids.
        hidden_characters: number of characters of the masked tokens, a scalar.
        hidden_pairs: `[m]`, the pairs of the alignment with a masked token; None without an alignment.
        epoch: epoch of the random numbers.
    """

    hidden: Tensor
    hidden_tokens: Tensor
    hidden_characters: Tensor
    hidden_pairs: Tensor | None
    epoch: int


@dataclass(frozen=True)
class Masking:
    """Masks tokens of a batch of `SpanCollator`.

    Tokens are selected on the host and copied to the device of the batch, since counting masked tokens on a GPU would
    wait for it. Whole spans or words are selected, so that the same characters are masked for student and teacher.

    Attributes:
        chances: `[student's vocabulary]`, probability of each token to be selected. That of a span is the mean over its
            tokens.
        student: tokens that replace the student's masked tokens.
        teacher: tokens that replace the teacher's masked tokens; None if it reads the whole text.
        whole_words: select words, which are separated by whitespace, rather than spans.
        seed: random seed.
    """

    chances: Tensor
    student: Filler
    teacher: Filler | None
    whole_words: bool
    seed: int

    def __call__(self, batch: SpanBatch, epoch: int) -> MaskedBatch:
        """Mask tokens of the batch. Each epoch masks other tokens."""
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
        elif self.teacher is None and batch.teacher is None:  # the teacher reads the student's tokens before masking
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
        """Probability of each span's unit to be selected, `[spans]`: the mean over the unit's tokens."""
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
        """The input ids of one model, with the tokens of the selected spans masked, replaced or unchanged."""
        tokens = layout.flatten(inputs["input_ids"])
        fate, ordinary = _of_tokens(fate, spans, 1), filler.ordinary
        numbers = self._numbers(epoch, 2, _of_tokens(texts, spans, 0), layout.positions)
        others = ordinary[(numbers * len(ordinary)).long()]
        seen = torch.where(fate < _MASKED, filler.mask, torch.where(fate < _MASKED + _REPLACED, others, tokens))
        return layout.put_back(inputs["input_ids"], seen)

    def _numbers(self, epoch: int, purpose: int, texts: Tensor, places: Tensor) -> Tensor:
        """A random number in 0..1 for each place in a text, `[n]`, float64."""
        return fractions(mixed(texts, places, self.seed, epoch, purpose))


def masking_chances(counts: Tensor | None, vocabulary: int, share: float, smoothing: float) -> Tensor:
    """Probability of each token to be masked, `[vocabulary]`, so that `share` of a text's tokens are masked.

    Rare tokens are masked more often: the probability is proportional to count ** -smoothing, and at most 1 (Sanh et
    al. 2019, arXiv:1910.01108, after XLM; here each token is selected independently).

    Args:
        counts: `[vocabulary]`, count of each token in the text; only used with smoothing.
        vocabulary: size of the vocabulary.
        share: share of masked tokens, 0..1.
        smoothing: 0 for equal probabilities, 0.7 as in DistilBERT.
    """
    if not smoothing:
        return torch.full((vocabulary,), share, dtype=torch.float64)
    counts = counts.double()
    weights, shares = counts.clamp_min(1) ** -smoothing, counts / counts.sum()
    low, high = 0.0, float(1 / weights.min())
    for _ in range(64):  # bisection for the factor, since probabilities are clamped to 1
        factor = (low + high) / 2
        too_few = ((factor * weights).clamp_max(1) * shares).sum() < share
        low, high = (factor, high) if too_few else (low, factor)
    return (high * weights).clamp_max(1)


def _of_tokens(values: Tensor, spans: Tensor, missing: float) -> Tensor:
    """The value of each token's span; `missing` for tokens without a span."""
    return torch.where(spans >= 0, values[spans], missing)


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device without waiting for it, which CUDA only does from pinned memory."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)
