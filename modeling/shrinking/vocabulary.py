"""Builds students with another vocabulary: remaps the rows of the word embeddings and of the output layer."""

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
    """The same student with the vocabulary of `tokenizer` (see `shrink`); unchanged if it is None."""
    if tokenizer is None:
        return draft
    words = draft.config.vocab_size
    if teacher_tokenizer is None or vocabulary_size(teacher_tokenizer) > words:
        has = "none" if teacher_tokenizer is None else f"one with {vocabulary_size(teacher_tokenizer)} tokens"
        raise ValueError(
            f"A student with its own tokenizer needs teacher_tokenizer=, the tokenizer of the teacher's {words} word "
            f"embeddings, but got {has}."
        )
    tokens = vocabulary_size(teacher_tokenizer)
    if piece_counts is not None and len(piece_counts) != tokens:
        raise ValueError(
            f"piece_counts has {len(piece_counts)} numbers, but the teacher's tokenizer has {tokens} tokens. Compute "
            "them by count_tokens(teacher_tokenizer, texts)."
        )
    spelling = spell(tokenizer, teacher_tokenizer)
    if unspelled := int((spelling.counts == 0).sum()):
        logger.warning(
            "%d of %d tokens can't be spelled in the teacher's vocabulary. They start as the mean of its embeddings.",
            unspelled,
            len(spelling.counts),
        )
    ids = [name for role in ROLES if getattr(draft.config, name := f"{role}_token_id", None) is not None]
    # A weight has the vocabulary as its first axis if it becomes longer with a larger vocabulary.
    longer = skeleton(draft.architecture, draft.config, vocab_size=words + 1).state_dict()
    tensors = {
        name: tensor if longer[name].shape == tensor.shape else _respelled(tensor, spelling, piece_counts)
        for name, tensor in draft.tensors.items()
    }
    settings = {"vocab_size": len(spelling.counts)} | {name: getattr(tokenizer, name) for name in ids}
    return _with_positions(draft.changed(tensors, **settings), draft)


def _respelled(rows: Tensor, spelling: Spelling, piece_counts: Tensor | None) -> Tensor:
    rows = rows.detach().cpu()
    # Pieces that never occur count once, so that the mean is defined for tokens of such pieces only.
    made = spelling.mean(rows, None if piece_counts is None else piece_counts.cpu().clamp_min(1))
    made[spelling.counts == 0] = rows.float().mean(0)
    return made


def _with_positions(draft: Draft, teacher: Draft) -> Draft:
    """Move positions that start after the padding token's id (RoBERTa) to start after the new id."""
    old, new = position_offset(teacher.outline), (draft.config.pad_token_id or 0) + 1
    if not old or old == new:
        return draft
    name = next(name for name in draft.tensors if name.endswith("position_embeddings.weight"))
    rows = draft.tensors[name].detach()
    moved = torch.cat([rows.new_zeros(new, rows.shape[1]), rows[old:]])
    return draft.changed(draft.tensors | {name: moved}, max_position_embeddings=len(moved))
