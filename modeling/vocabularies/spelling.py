"""Spells the tokens of one vocabulary by the pieces of another."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerBase

ROLES = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
# Characters put before a token's text to tokenize it inside a word. Digits first, since few pieces begin with a digit.
_ANCHORS = string.digits + string.ascii_lowercase


@dataclass(frozen=True)
class Spelling:
    """For each token of a vocabulary, the pieces of another vocabulary that spell it.

    Attributes:
        pieces: `[all pieces]`, ids in the other vocabulary, token by token.
        counts: `[tokens]`, number of pieces of each token; 0 if it can't be spelled.
    """

    pieces: Tensor
    counts: Tensor

    def __getitem__(self, token: int) -> list[int]:
        """The pieces of one token."""
        end = int(self.counts[: token + 1].sum())
        return self.pieces[end - int(self.counts[token]) : end].tolist()

    def without(self, tokens: Sequence[int] | Tensor) -> Spelling:
        """The same spelling without the pieces of these tokens."""
        left_out = torch.zeros_like(self.counts, dtype=torch.bool)
        left_out[torch.as_tensor(tokens)] = True
        kept = torch.repeat_interleave(~left_out, self.counts)
        return Spelling(self.pieces[kept], self.counts.masked_fill(left_out, 0))

    def mean(self, rows: Tensor, weights: Tensor | None = None) -> Tensor:
        """One row for each token: the mean of its pieces' rows; zeros for a token without pieces.

        Args:
            rows: `[pieces, ...]`, one row for each piece of the other vocabulary.
            weights: `[pieces]`, weight of each piece in a mean, above 0. None weights them equally.

        Returns:
            `[tokens, ...]`, float32.
        """
        tokens = torch.repeat_interleave(torch.arange(len(self.counts)), self.counts)
        own = torch.ones(len(tokens)) if weights is None else weights[self.pieces].float()
        shares = own / torch.zeros(len(self.counts)).index_add_(0, tokens, own)[tokens]
        parts = rows[self.pieces].float() * shares.view(-1, *[1] * (rows.dim() - 1))
        return torch.zeros(len(self.counts), *rows.shape[1:]).index_add_(0, tokens, parts)


def spell(tokenizer: PreTrainedTokenizerBase, by: PreTrainedTokenizerBase) -> Spelling:
    """Spell every token of one tokenizer by another's pieces.

    A token that both vocabularies have is spelled by itself. The text of every other token is tokenized again: at the
    start of a word, or inside a word if the token marks that in its own tokenizer (`##ing`; `ing` as opposed to `▁ing`
    or `Ġing`). Special tokens are spelled by the special token of the same role. A token without a text (a part of a
    character, a special token without a role) is spelled by the token of the same name. Tokens that the other tokenizer
    can't spell have no pieces.

    Args:
        tokenizer: the tokenizer whose tokens are spelled; a fast tokenizer.
        by: the tokenizer whose pieces spell them; a fast tokenizer.

    Raises:
        ValueError: a tokenizer is slow, or has no token for a single letter or digit.
    """
    require_fast(tokenizer)
    require_fast(by)
    texts, theirs, ids = _texts(tokenizer), _texts(by), by.get_vocab()
    names = {token: ids.get(name) for name, token in tokenizer.get_vocab().items()}
    found = {
        token: [same] for token, same in names.items() if same is not None and theirs.get(same) == texts.get(token)
    }
    others = [token for token in texts if token not in found]
    alike = {text: token for token, text in reversed(theirs.items())}
    for token, pieces in zip(others, _pieces(by, [texts[token] for token in others]), strict=True):
        # A token with this text is preferred, even if the tokenizer splits the text (Unigram).
        found[token] = [alike[texts[token]]] if len(pieces) != 1 and texts[token] in alike else pieces
    for role in ROLES:
        special, other = getattr(tokenizer, f"{role}_token_id"), getattr(by, f"{role}_token_id")
        if special is not None and other is not None:
            found[special] = [other]
    spelled = [found.get(token, []) for token in range(vocabulary_size(tokenizer))]
    counts = torch.tensor([len(pieces) for pieces in spelled])
    return Spelling(torch.tensor([piece for pieces in spelled for piece in pieces], dtype=torch.long), counts)


def require_fast(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise a ValueError for a slow tokenizer, which doesn't expose its pipeline."""
    if not tokenizer.is_fast:
        raise ValueError(f"{type(tokenizer).__name__} is a slow tokenizer. Load a fast one with AutoTokenizer.")


def vocabulary_size(tokenizer: PreTrainedTokenizerBase | Tokenizer) -> int:
    """Number of rows that a model's word embeddings need: the highest token id plus 1."""
    return max(tokenizer.get_vocab().values()) + 1


@dataclass(frozen=True)
class _Text:
    """The text of a token, and whether the token continues a word."""

    text: str
    inside: bool


def _texts(tokenizer: PreTrainedTokenizerBase) -> dict[int, _Text]:
    """The text of each token that has one."""
    anchor, before = _anchor(tokenizer)
    special = set(tokenizer.all_special_ids)
    tokens = [token for token in sorted(tokenizer.get_vocab().values()) if token not in special]
    joined = tokenizer.batch_decode([[anchor, token] for token in tokens], clean_up_tokenization_spaces=False)
    rests = [text.removeprefix(before) for text in joined]
    return {
        token: _Text(rest.strip(), inside=not rest[0].isspace())
        for token, rest in zip(tokens, rests, strict=True)
        if rest.strip() and "\ufffd" not in rest  # the decoded form of a part of a character
    }


def _pieces(tokenizer: PreTrainedTokenizerBase, texts: Sequence[_Text]) -> list[list[int]]:
    """The pieces of each text in a tokenizer; an empty list for a text with unknown parts."""
    found: dict[int, list[int]] = {}
    starts = [index for index, each in enumerate(texts) if not each.inside]
    before = next(_anchors(tokenizer), _Anchor(" ", "", 0)).before
    found |= zip(starts, _encode(tokenizer, [f"{before}{texts[index].text}" for index in starts]), strict=True)
    for anchor in _anchors(tokenizer):
        rest = [index for index in range(len(texts)) if index not in found]
        if not rest:
            break
        encoded = _encode(tokenizer, [f"{anchor.before}{anchor.text}{texts[index].text}" for index in rest])
        # If the anchor is merged with the text, the next anchor is tried.
        found |= {index: ids[1:] for index, ids in zip(rest, encoded, strict=True) if ids[:1] == [anchor.token]}
        found |= {index: [] for index, ids in zip(rest, encoded, strict=True) if tokenizer.unk_token_id in ids}
    return [_known(tokenizer, found.get(index, [])) for index in range(len(texts))]


def _known(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    return [] if tokenizer.unk_token_id in ids else ids


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []


@dataclass(frozen=True)
class _Anchor:
    """A letter or digit that is one token at the start of a word; `before` is the text that starts the word."""

    before: str
    text: str
    token: int


def _anchors(tokenizer: PreTrainedTokenizerBase) -> Iterator[_Anchor]:
    """All anchors after a space; or without it, if the tokenizer itself puts a space before every text (Llama 2)."""
    for before in (" ", ""):
        found = False
        for character in _ANCHORS:
            ids = _known(tokenizer, _encode(tokenizer, [f"{before}{character}"])[0])
            if len(ids) != 1 or tokenizer.decode(ids).strip() != character:
                continue
            # Without a space before it, the token starts a word only if two of them are two words.
            if before or tokenizer.decode(ids * 2).split() == [character] * 2:
                found = True
                yield _Anchor(before, character, ids[0])
        if found:
            return


def _anchor(tokenizer: PreTrainedTokenizerBase) -> tuple[int, str]:
    """A token of one letter or digit at the start of a word, and its text."""
    for anchor in _anchors(tokenizer):
        return anchor.token, tokenizer.decode([anchor.token])
    raise ValueError(f"{type(tokenizer).__name__} has no token that is one letter (a to z) or digit.")
