"""How the tokens of one vocabulary are spelled in another."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerBase

ROLES = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
# Characters that tokens are put behind, to see what they are inside a word. Digits first: few pieces begin with one.
_ANCHORS = string.digits + string.ascii_lowercase


@dataclass(frozen=True)
class Spelling:
    """For each token of a vocabulary, the pieces of another that spell it.

    Attributes:
        pieces: `[all pieces]`, ids in the other vocabulary, token by token.
        counts: `[tokens]`, how many each token has; 0 where it can't be spelled.
    """

    pieces: Tensor
    counts: Tensor

    def __getitem__(self, token: int) -> list[int]:
        """The pieces of one token."""
        end = int(self.counts[: token + 1].sum())
        return self.pieces[end - int(self.counts[token]) : end].tolist()

    def without(self, tokens: Sequence[int] | Tensor) -> Spelling:
        """The same, but for some tokens that have no pieces any more."""
        left_out = torch.zeros_like(self.counts, dtype=torch.bool)
        left_out[torch.as_tensor(tokens)] = True
        kept = torch.repeat_interleave(~left_out, self.counts)
        return Spelling(self.pieces[kept], self.counts.masked_fill(left_out, 0))

    def mean(self, rows: Tensor, weights: Tensor | None = None) -> Tensor:
        """One row for each token: the mean of its pieces' rows, zeros without any.

        Args:
            rows: `[pieces, ...]`, one for each of the other vocabulary.
            weights: `[pieces]`, above 0, what each counts in a mean; None for all alike.

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

    A token that both have is spelled by itself. The text of others is tokenised anew: at the beginning of a word, or
    inside one if that is where the token stands by its tokenizer's own convention (`##ing`, `ing` beside `▁ing`, `ing`
    beside `Ġing`). Special tokens are spelled by those of the same role. A token without text of its own (a part of a
    character, a special token without a role) is spelled by the one of the same name. What the other tokenizer lacks or
    doesn't know has no pieces.

    Args:
        tokenizer: whose tokens are spelled.
        by: whose pieces spell them. Both are fast tokenizers.

    Raises:
        ValueError: a slow tokenizer, or one that joins nothing to any letter or digit.
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
        # What another kind of tokenizer has as one token need not be what its text comes to (Unigram).
        found[token] = [alike[texts[token]]] if len(pieces) != 1 and texts[token] in alike else pieces
    for role in ROLES:
        ours, its_like = getattr(tokenizer, f"{role}_token_id"), getattr(by, f"{role}_token_id")
        if ours is not None and its_like is not None:
            found[ours] = [its_like]
    spelled = [found.get(token, []) for token in range(vocabulary_size(tokenizer))]
    counts = torch.tensor([len(pieces) for pieces in spelled])
    return Spelling(torch.tensor([piece for pieces in spelled for piece in pieces], dtype=torch.long), counts)


def require_fast(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise a ValueError for a slow tokenizer, which doesn't show what its tokens are made of."""
    if not tokenizer.is_fast:
        raise ValueError(f"{type(tokenizer).__name__} is a slow tokenizer. Load it with AutoTokenizer, as a fast one.")


def vocabulary_size(tokenizer: PreTrainedTokenizerBase | Tokenizer) -> int:
    """How many rows a model's word embeddings need; more than there are tokens, if ids were left out."""
    return max(tokenizer.get_vocab().values()) + 1


@dataclass(frozen=True)
class _Text:
    """What a token stands for, and whether it does so inside a word."""

    text: str
    inside: bool


def _texts(tokenizer: PreTrainedTokenizerBase) -> dict[int, _Text]:
    """What each token stands for that has a text of its own."""
    anchor, before = _anchor(tokenizer)
    special = set(tokenizer.all_special_ids)
    tokens = [token for token in sorted(tokenizer.get_vocab().values()) if token not in special]
    joined = tokenizer.batch_decode([[anchor, token] for token in tokens], clean_up_tokenization_spaces=False)
    rests = [text.removeprefix(before) for text in joined]
    return {
        token: _Text(rest.strip(), inside=not rest[0].isspace())
        for token, rest in zip(tokens, rests, strict=True)
        if rest.strip() and "\ufffd" not in rest  # which stands for a part of a character
    }


def _pieces(tokenizer: PreTrainedTokenizerBase, texts: Sequence[_Text]) -> list[list[int]]:
    """What texts come to in a tokenizer; nothing where one is unknown to it."""
    found: dict[int, list[int]] = {}
    starts = [index for index, each in enumerate(texts) if not each.inside]
    before = next(_anchors(tokenizer), _Anchor(" ", "", 0)).before
    found |= zip(starts, _encode(tokenizer, [f"{before}{texts[index].text}" for index in starts]), strict=True)
    for anchor in _anchors(tokenizer):
        rest = [index for index in range(len(texts)) if index not in found]
        if not rest:
            break
        encoded = _encode(tokenizer, [f"{anchor.before}{anchor.text}{texts[index].text}" for index in rest])
        # Where the anchor is not a piece of its own, another one is tried.
        found |= {index: ids[1:] for index, ids in zip(rest, encoded, strict=True) if ids[:1] == [anchor.token]}
        found |= {index: [] for index, ids in zip(rest, encoded, strict=True) if tokenizer.unk_token_id in ids}
    return [_known(tokenizer, found.get(index, [])) for index in range(len(texts))]


def _known(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    return [] if tokenizer.unk_token_id in ids else ids


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []


@dataclass(frozen=True)
class _Anchor:
    """A letter or digit that is one token at the beginning of a word; `before` is what makes a word begin there."""

    before: str
    text: str
    token: int


def _anchors(tokenizer: PreTrainedTokenizerBase) -> Iterator[_Anchor]:
    """All anchors behind a space; or, where the tokenizer puts one before every text itself (Llama 2), without."""
    for before in (" ", ""):
        found = False
        for character in _ANCHORS:
            ids = _known(tokenizer, _encode(tokenizer, [f"{before}{character}"])[0])
            if len(ids) != 1 or tokenizer.decode(ids).strip() != character:
                continue
            # Without a space before it, it begins a word only if two of them don't make one word.
            if before or tokenizer.decode(ids * 2).split() == [character] * 2:
                found = True
                yield _Anchor(before, character, ids[0])
        if found:
            return


def _anchor(tokenizer: PreTrainedTokenizerBase) -> tuple[int, str]:
    """A token of one letter or digit at the beginning of a word, and its text."""
    for anchor in _anchors(tokenizer):
        return anchor.token, tokenizer.decode([anchor.token])
    raise ValueError(f"{type(tokenizer).__name__} has no token that is one letter (a to z) or digit.")
