"""One model's tokenizer: what it does, its limits, and where it puts words."""

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

    Compares what they do (vocabulary, normalisation, splitting, special tokens), not what they are called.
    """
    return one is other or behaviour(one) == behaviour(other)


def behaviour(tokenizer: PreTrainedTokenizerBase) -> str:
    """All that a tokenizer's output depends on, as JSON, without the truncation and padding of its last call.

    Raises:
        ValueError: a slow tokenizer.
    """
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
    """Whether the tokenizer's model tells the two texts of a pair by `token_type_ids`."""
    return "token_type_ids" in tokenizer.model_input_names


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """A row's tokens.

    Attributes:
        ids: token ids, special ones included.
        type_ids: the text that each token belongs to, as the tokenizer numbers them.
        text: places of the tokens from the first to the last that stand for text, rather than being added by the
            tokenizer; empty if none does.
        was_cut: whether tokens were cut off at the encoder's `max_length`.
        words: number of words in the row, whether cut off or not; 0 if words weren't looked for.
        first_pieces: place in the row of each word's first token; words that were cut off are missing.
        unknown_words: words that the tokenizer had dropped, and that stand as its unknown token.
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
        """Read off a row's encoding, with the spans of the words of its texts if they are to be found."""
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

    @property
    def has_text(self) -> bool:
        """Whether any token stands for text."""
        return bool(self.text)

    def between_special(self, values: list[int], tokens: range) -> list[int]:
        """Those of the values, one for each token, that belong to `tokens`, and to special tokens before and after."""
        return [*values[: self.text.start], *values[tokens.start : tokens.stop], *values[self.text.stop :]]

    @property
    def words_at(self) -> dict[int, int]:
        """Place of a token -> the word that it is the first piece of; of two words in one token, the first."""
        return {position: word for (_, word), position in reversed(self.first_pieces.items())}


# What a row is made of is read off its encoding. Python lists of the rest would cost a fifth of the time.
_IDS_ALONE = {"return_attention_mask": False, "return_token_type_ids": False}


def _places_of_text(texts: list[int | None]) -> range:
    """From the first token to the last that belongs to a text, where None is a special token."""
    first = next((place for place, text in enumerate(texts) if text is not None), len(texts))
    last = next((place for place in range(len(texts) - 1, first - 1, -1) if texts[place] is not None), first - 1)
    return range(first, last + 1)


def room_for_text(tokenizer: PreTrainedTokenizerBase, max_length: int, *, pairs: bool = False) -> int:
    """Tokens of text that a row of at most `max_length` tokens holds beside special ones.

    Args:
        tokenizer: a limit of its own, `model_max_length`, goes before a higher `max_length`.
        max_length: tokens of a row at most, special ones included.
        pairs: whether rows are two texts.

    Raises:
        ValueError: special tokens fill the row.
    """
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
        tokenizer: a fast one. It is copied, since a call with truncation changes what it saves to tokenizer.json.
        max_length: tokens of a row at most, special ones included; lowered to the tokenizer's `model_max_length`.
        pairs: whether rows are two texts.

    Attributes:
        description: all that the encoding depends on, as plain values.
        room: tokens of a row at most, special ones not counted.

    Raises:
        ValueError: a slow tokenizer, or a `max_length` that special tokens fill.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int, *, pairs: bool = False):
        self.max_length = min(max_length, tokenizer.model_max_length)
        self.room = room_for_text(tokenizer, max_length, pairs=pairs)
        self.description = [behaviour(tokenizer), self.max_length, tokenizer.truncation_side]
        self.tokenizer = copy.deepcopy(tokenizer)

    def encode_texts(
        self, texts: list[str], pairs: list[str] | None = None, *, find_words: bool = False, cut: bool = True
    ) -> list[EncodedRow]:
        """Encode one text per row, or two.

        Args:
            texts: one per row.
            pairs: the second texts.
            find_words: also find the words that whitespace separates.
            cut: cut at `max_length`.
        """
        encodings = self.encode(texts, pairs, cut=cut)
        rows = zip(texts, strict=True) if pairs is None else zip(texts, pairs, strict=True)
        spans = [[spans_of_text(text) for text in row] if find_words else () for row in rows]
        return list(map(EncodedRow.of, encodings, spans))

    def encode_words(self, rows: list[list[str]]) -> list[EncodedRow]:
        """Encode rows of words, of any length, as the texts that they make with a space between them.

        So the tokens are those of running text, which is what the model will be given when it is used; with words
        encoded one by one, byte-level tokenizers would lose the spaces.

        A word of which the tokenizer leaves nothing is encoded as its unknown token: every word has a first piece.

        Raises:
            ValueError: the tokenizer drops a word, and has no unknown token.
        """
        encoded = []
        for words, encoding in zip(rows, self.encode([" ".join(words) for words in rows], cut=False), strict=True):
            row = EncodedRow.of(encoding, [spans_of_words(words)])
            encoded.append(self._with_unknown(words, dropped) if (dropped := _dropped(row)) else row)
        return encoded

    def encode(self, texts: list[str], pairs: list[str] | None = None, *, cut: bool = True) -> list[Encoding]:
        """Encode one text per row, or two, with special tokens; cut at `max_length` unless told otherwise."""
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
                f"{type(self.tokenizer).__name__} makes no token of the word {words[min(still_dropped)]!r}, and has no "
                f"unknown token that could stand for it (unk_token={unknown!r}). Replace such words in the data."
            )
        return row


def _dropped(row: EncodedRow) -> set[int]:
    """Words of a row of words, encoded whole, that have no token."""
    return set(range(row.words)) - {word for _, word in row.first_pieces}
