"""Another vocabulary: rows of the word embeddings and of the output layer for a student's own tokens."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ..encoding import position_offset
from ..vocabularies import ROLES, Spelling, spell, vocabulary_size
from .draft import Draft, skeleton

logger = logging.get_logger(__name__)


def with_vocabulary(
    draft: Draft,
    tokenizer: PreTrainedTokenizerBase | None,
    teacher_tokenizer: PreTrainedTokenizerBase | None,
    piece_counts: Tensor | None,
) -> Draft:
    """The same student with the vocabulary of `tokenizer` (see `shrink`); as it is, if there is none.

    Raises:
        ValueError: no tokenizer of the teacher's, or one with more tokens than the teacher has; counts of another
            number of tokens.
    """
    if tokenizer is None:
        return draft
    words = draft.config.vocab_size
    if teacher_tokenizer is None or vocabulary_size(teacher_tokenizer) > words:
        has = "none" if teacher_tokenizer is None else f"one with {vocabulary_size(teacher_tokenizer)} tokens"
        raise ValueError(
            f"A student with a tokenizer of its own needs teacher_tokenizer=, the one that goes with the teacher's "
            f"{words} word embeddings, but got {has}."
        )
    tokens = vocabulary_size(teacher_tokenizer)
    if piece_counts is not None and len(piece_counts) != tokens:
        raise ValueError(
            f"piece_counts has {len(piece_counts)} numbers, but the teacher's tokenizer {tokens} tokens. Make it by "
            "count_tokens(teacher_tokenizer, texts)."
        )
    spelling = spell(tokenizer, teacher_tokenizer)
    if unspelled := int((spelling.counts == 0).sum()):
        logger.warning(
            "%d of %d tokens can't be spelled in the teacher's vocabulary; they start as the mean of its words.",
            unspelled,
            len(spelling.counts),
        )
    config = copy.deepcopy(draft.config)
    config.vocab_size = len(spelling.counts)
    for role in ROLES:
        if getattr(config, f"{role}_token_id", None) is not None:
            setattr(config, f"{role}_token_id", getattr(tokenizer, f"{role}_token_id"))
    counting = _names_that_count_words(draft)
    tensors = {
        name: _respelled(tensor, spelling, piece_counts) if name in counting else tensor
        for name, tensor in draft.tensors.items()
    }
    return _with_positions(replace(draft, config=config, tensors=tensors), draft)


def _names_that_count_words(draft: Draft) -> set[str]:
    """Of the weights whose first axis is the vocabulary, found by building the model with another one."""
    config = copy.deepcopy(draft.config)
    config.vocab_size += 1
    other = skeleton(draft.architecture, config).state_dict()
    return {name for name, tensor in draft.outline.state_dict().items() if tensor.shape != other[name].shape}


def _respelled(rows: Tensor, spelling: Spelling, piece_counts: Tensor | None) -> Tensor:
    rows = rows.detach().cpu()
    # What never occurs counts as what occurs once, so that words of such pieces alone have a mean, too.
    made = spelling.mean(rows, None if piece_counts is None else piece_counts.cpu().clamp_min(1))
    made[spelling.counts == 0] = rows.float().mean(0)
    return made


def _with_positions(draft: Draft, teacher: Draft) -> Draft:
    """Positions that begin behind the padding's id, as RoBERTa's do, begin behind the new one."""
    old, new = position_offset(teacher.outline), (draft.config.pad_token_id or 0) + 1
    if not old or old == new:
        return draft
    name = next(name for name in draft.tensors if name.endswith("position_embeddings.weight"))
    rows = draft.tensors[name].detach()
    moved = torch.cat([rows.new_zeros(new, rows.shape[1]), rows[old:]])
    config = copy.deepcopy(draft.config)
    config.max_position_embeddings = len(moved)
    return replace(draft, config=config, tensors=draft.tensors | {name: moved})
