"""Encodes rows with one tokenizer, within its limits, and finds the first tokens of words."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase

from .words import Span, Word, first_pieces, spans_of_text, spans_of_words


def same_tokenizer(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether two tokenizers turn every text into the same tokens.

    Compares their vocabulary, normalisation, pre-tokenization and special tokens, not their names.
    """
    return one is other or behaviour(one) == behaviour(other)


def behaviour(tokenizer: PreTrainedTokenizerBase) -> str:
    """Everything that a tokenizer's output depends on, as JSON, without the truncation and padding of its last call."""
    if not tokenizer.is_fast:
        raise ValueError(
            f"{type(tokenizer).__name__} is a slow tokenizer, which gives no character offsets. Load a fast one: "
            "AutoTokenizer.from_pretrained(folder), where the folder holds a tokenizer.json."
        )
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    del backend["truncation"], backend["padding"]
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return json.dumps([backend, special], sort_keys=True)


def makes_token_types(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer's model distinguishes the two texts of a pair by `token_type_ids`."""
    return "token_type_ids" in tokenizer.model_input_names


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """A row's tokens.

    Attributes:
        ids: token ids, special tokens included.
        type_ids: token type ids; empty for single texts.
        text: positions from the first to the last token of the text, without the special tokens around it; empty if
            there are no such tokens.
        was_cut: whether the row was truncated to the encoder's `max_length`.
        words: number of words in the row, including truncated ones; 0 if words were not searched.
        first_pieces: position in the row of each word's first token; truncated words are missing.
        unknown_words: number of words that the tokenizer dropped and that were encoded as its unknown token.
    """

    ids: list[int]
    type_ids: list[int]
    text: range
    was_cut: bool
    words: int
    first_pieces: dict[Word, int]
    unknown_words: int

    @classmethod
    def of(cls, encoding: Encoding, spans: Sequence[Sequence[Span]] = (), unknown_words: int = 0) -> EncodedRow:
        """Convert a row's encoding. `spans` are the spans of its texts' words, if words are to be found."""
        is_pair = encoding.n_sequences > 1
        return cls(
            ids=encoding.ids,
            type_ids=encoding.type_ids if is_pair else [],
            text=_places_of_text(encoding.sequence_ids),
            was_cut=bool(encoding.overflowing),
            words=sum(map(len, spans)),
            first_pieces=first_pieces(encoding, spans) if spans else {},
            unknown_words=unknown_words,
        )

    def between_special(self, values: list[int], tokens: range) -> list[int]:
        """Select those of `values` (one per token) that belong to `tokens` or to special tokens around the text."""
        return [*values[: self.text.start], *values[tokens.start : tokens.stop], *values[self.text.stop :]]

    @property
    def words_at(self) -> dict[int, int]:
        """Position of a word's first token -> the word; if a token is the first one of two words, the first word."""
        return {position: word for (_, word), position in reversed(self.first_pieces.items())}


# Everything is read from the encodings. Converting these columns to Python lists would take a fifth of the time.
_IDS_ALONE = {"return_attention_mask": False, "return_token_type_ids": False}


def _places_of_text(texts: list[int | None]) -> range:
    """The positions from the first to the last token of a text. `texts` is None at special tokens."""
    first = next((place for place, text in enumerate(texts) if text is not None), len(texts))
    last = next((place for place in range(len(texts) - 1, first - 1, -1) if texts[place] is not None), first - 1)
    return range(first, last + 1)


def room_for_text(tokenizer: PreTrainedTokenizerBase, max_length: int, *, pairs: bool = False) -> int:
    """Number of text tokens in a row of at most `max_length` tokens (or `model_max_length`), without special tokens."""
    max_length = min(max_length, tokenizer.model_max_length)
    special = tokenizer.num_special_tokens_to_add(pair=pairs)
    if max_length <= special:
        raise ValueError(
            f"max_length={max_length} leaves no room for text: {type(tokenizer).__name__} adds {special} special "
            "tokens to each row."
        )
    return max_length - special


class Encoder:
    """Encodes rows with one tokenizer.

    Args:
        tokenizer: a fast tokenizer. It is copied, since truncation settings of a call would be saved with it.
        max_length: maximal number of tokens of a row, special tokens included; lowered to the tokenizer's
            `model_max_length`.
        pairs: whether rows are two texts.

    Attributes:
        description: everything that the encoding depends on, as JSON values.
        room: maximal number of tokens of a row without special tokens.

    Raises:
        ValueError: the tokenizer is slow, or `max_length` leaves no room for text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int, *, pairs: bool = False):
        self.max_length = min(max_length, tokenizer.model_max_length)
        self.room = room_for_text(tokenizer, max_length, pairs=pairs)
        self.description = [behaviour(tokenizer), self.max_length, tokenizer.truncation_side]
        self.tokenizer = copy.deepcopy(tokenizer)

    def encode_texts(
        self, texts: list[str], pairs: list[str] | None = None, *, find_words: bool = False, cut: bool = True
    ) -> list[EncodedRow]:
        """Encode one text per row, or a pair of texts.

        Args:
            texts: one text per row.
            pairs: the second texts.
            find_words: also find the words, which are separated by whitespace.
            cut: truncate to `max_length`.
        """
        encodings = self.encode(texts, pairs, cut=cut)
        rows = zip(texts, strict=True) if pairs is None else zip(texts, pairs, strict=True)
        spans = [[spans_of_text(text) for text in row] if find_words else () for row in rows]
        return list(map(EncodedRow.of, encodings, spans))

    def encode_words(self, rows: list[list[str]]) -> list[EncodedRow]:
        """Encode rows of words, of any length, as texts with a space between words.

        So the tokens are those of running text, as in inference. If words were encoded one by one, byte-level
        tokenizers would lose the spaces.

        A word that the tokenizer drops is encoded as its unknown token, so every word has a first piece.

        Raises:
            ValueError: the tokenizer drops a word and has no unknown token.
        """
        encoded = []
        for words, encoding in zip(rows, self.encode([" ".join(words) for words in rows], cut=False), strict=True):
            row = EncodedRow.of(encoding, [spans_of_words(words)])
            encoded.append(self._with_unknown(words, dropped) if (dropped := _dropped(row)) else row)
        return encoded

    def encode(self, texts: list[str], pairs: list[str] | None = None, *, cut: bool = True) -> list[Encoding]:
        """Encode one text per row, or a pair, with special tokens; truncated to `max_length` if `cut`."""
        if not texts:
            return []
        limit = {"truncation": True, "max_length": self.max_length} if cut else {"truncation": False, "verbose": False}
        return self.tokenizer(texts, pairs, **limit, **_IDS_ALONE).encodings

    def encode_whole(self, texts: list[str]) -> list[Encoding]:
        """Encode texts of any length, without special tokens."""
        return self.tokenizer(texts, add_special_tokens=False, verbose=False, **_IDS_ALONE).encodings if texts else []

    def _with_unknown(self, words: list[str], dropped: set[int]) -> EncodedRow:
        unknown = self.tokenizer.unk_token
        words = [unknown if index in dropped else word for index, word in enumerate(words)] if unknown else words
        (encoding,) = self.encode([" ".join(words)], cut=False)
        row = EncodedRow.of(encoding, [spans_of_words(words)], unknown_words=len(dropped))
        if still_dropped := _dropped(row):
            raise ValueError(
                f"{type(self.tokenizer).__name__} has no token for the word {words[min(still_dropped)]!r}, and no "
                f"unknown token to replace it (unk_token={unknown!r}). Replace such words in the data."
            )
        return row


def _dropped(row: EncodedRow) -> set[int]:
    """The words without a token in a row that was encoded without truncation."""
    return set(range(row.words)) - {word for _, word in row.first_pieces}
