"""Builds students with another vocabulary: remaps the rows of the word embeddings and of the output layer."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ..encoding import position_offset
from ..vocabularies import ROLES, Spelling, spell, vocabulary_size
from .draft import Draft, skeleton

logger = logging.get_logger(__name__)


def spell_for(
    draft: Draft,
    tokenizer: PreTrainedTokenizerBase | None,
    teacher_tokenizer: PreTrainedTokenizerBase | None,
    piece_counts: Tensor | None,
) -> Spelling | None:
    """The tokens of `tokenizer` in the teacher's pieces (see `shrink`); None if it is None."""
    if tokenizer is None:
        return None
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
    return spelling


def shared_tokens(
    spelling: Spelling, tokenizer: PreTrainedTokenizerBase, teacher_tokenizer: PreTrainedTokenizerBase
) -> list[tuple[int, int]]:
    """Each token that one piece of the teacher's spells, with this piece; without special tokens."""
    ends = spelling.counts.cumsum(0) - 1
    single = (spelling.counts == 1).nonzero().flatten()
    ours, theirs = set(tokenizer.all_special_ids), set(teacher_tokenizer.all_special_ids)
    pairs = zip(single.tolist(), spelling.pieces[ends[single]].tolist(), strict=True)
    return [(token, piece) for token, piece in pairs if token not in ours and piece not in theirs]


def with_vocabulary(
    draft: Draft, tokenizer: PreTrainedTokenizerBase | None, spelling: Spelling | None, piece_counts: Tensor | None
) -> Draft:
    """The same student with the vocabulary of `tokenizer` (see `shrink`); unchanged if there is no spelling of it."""
    if spelling is None:
        return draft
    words = draft.config.vocab_size
    ids = [name for role in ROLES if getattr(draft.config, name := f"{role}_token_id", None) is not None]
    # A weight has the vocabulary on the axis that becomes longer with a larger vocabulary.
    longer = skeleton(draft.architecture, draft.config, vocab_size=words + 1).state_dict()
    tensors = {}
    for name, tensor in draft.tensors.items():
        grown = [axis for axis in range(tensor.dim()) if longer[name].shape[axis] != tensor.shape[axis]]
        tensors[name] = _respelled(tensor, grown[0], spelling, piece_counts) if grown else tensor
    settings = {"vocab_size": len(spelling.counts)} | {name: getattr(tokenizer, name) for name in ids}
    respelled = draft.changed(tensors, **settings)
    if starts := position_offset(draft.outline):
        respelled = _with_positions(respelled, starts, tokenizer, spelling)
    respelled.check()
    return respelled


def _respelled(weight: Tensor, axis: int, spelling: Spelling, piece_counts: Tensor | None) -> Tensor:
    rows = weight.detach().cpu().movedim(axis, 0)
    # Pieces that never occur count once, so that the mean is defined for tokens of such pieces only.
    made = spelling.mean(rows, None if piece_counts is None else piece_counts.cpu().clamp_min(1))
    made[spelling.counts == 0] = rows.float().mean(0)
    return made.movedim(0, axis)


def _with_positions(draft: Draft, old: int, tokenizer: PreTrainedTokenizerBase, spelling: Spelling) -> Draft:
    """Move positions that start after the padding token's id (RoBERTa) to start after the new id.

    Args:
        draft: the student with its own vocabulary, and still with the teacher's positions.
        old: the teacher's `position_offset`.
    """
    name, positions = draft.architecture.__name__, draft.config.max_position_embeddings
    if tokenizer.pad_token_id is None:
        raise ValueError(
            f"{name} counts positions from its padding token's id, but the student's tokenizer has no padding token. "
            "Set tokenizer.pad_token."
        )
    # The class says where its positions start. An embedding can't have its padding beyond its end.
    longer = skeleton(draft.architecture, draft.config, max_position_embeddings=positions + tokenizer.pad_token_id + 1)
    new = position_offset(longer)
    # The token that is no position. MPNet's has the id 1, whatever the configuration says.
    skipped = new - 1
    if skipped != tokenizer.pad_token_id and spelling[skipped] != [old - 1]:
        raise ValueError(
            f"{name} takes token {skipped} for padding, whatever its tokenizer says. In the student's tokenizer token "
            f"{skipped} is {tokenizer.convert_ids_to_tokens(skipped)!r}, and the padding token is "
            f"{tokenizer.pad_token_id}. Use a tokenizer whose padding token is {skipped}, or leave tokenizer out."
        )
    if new == old:
        return draft
    count, grown = positions - old + new, longer.state_dict()
    moved = {
        each: _moved(rows.detach(), old, new, count, longer.get_submodule(each.rpartition(".")[0]))
        for each, rows in draft.tensors.items()
        if grown[each].shape != rows.shape
    }
    return draft.changed(draft.tensors | moved, max_position_embeddings=count)


def _moved(rows: Tensor, old: int, new: int, count: int, table: nn.Module) -> Tensor:
    """The `count` rows of a table of positions that start at `new` in place of `old`.

    Positions of a table without padding (LUKE's of entities) start at 0 in both.
    """
    if getattr(table, "padding_idx", None) is None:
        old = new = 0
    rows = torch.cat([rows.new_zeros(new, *rows.shape[1:]), rows[old:]])[:count]
    return torch.cat([rows, rows.new_zeros(count - len(rows), *rows.shape[1:])])
