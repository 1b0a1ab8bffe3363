"""Trims a tokenizer to the tokens that a corpus needs."""

import json
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from datasets import Dataset
from tokenizers import Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerBase

from ...modeling.vocabularies import require_fast
from .training import count_tokens, counting_tokenizer

# Attributes that can be changed on a tokenizer but are then not saved with it.
_SETTINGS = (
    "padding_side",
    "truncation_side",
    "model_input_names",
    "split_special_tokens",
    "clean_up_tokenization_spaces",
)


def trim_tokenizer(
    tokenizer: PreTrainedTokenizerBase, texts: Dataset, *, vocab_size: int | None = None, coverage: float = 1.0
) -> PreTrainedTokenizerBase:
    """Trim a tokenizer to the tokens of a corpus.

    Without a limit, all tokens of the texts are kept, and the texts are tokenized as before. With a limit, the most
    frequent tokens are kept, and smaller pieces spell the others. Tokens keep their order and get consecutive ids.

    Special tokens, added tokens, byte tokens and the token of each character of the texts are always kept, so words of
    these characters don't become unknown. If the tokenizer has no token for a character, all tokens of the texts that
    contain it are kept.

    Args:
        tokenizer: a fast tokenizer with a WordPiece, BPE or Unigram model; not changed.
        texts: columns of strings, in all languages of the student.
        vocab_size: maximal number of tokens, special tokens included.
        coverage: share of the texts' tokens that the kept tokens cover, above 0 and at most 1: 0.999 drops the rarest
            tokens, which together are one token in a thousand. It can be combined with `vocab_size`.

    Returns:
        A tokenizer of the same class, with the same special tokens and settings.

    Raises:
        ValueError: the tokenizer is slow, has another model or has changes that it doesn't save; there is no text;
            `coverage` is out of range; or `vocab_size` is too small for the tokens that are always kept.
        TypeError: `texts` is no `Dataset`.
    """
    require_fast(tokenizer)
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage={coverage}, but it must be above 0 and at most 1: it is a share of the texts.")
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    if (kind := backend["model"]["type"]) not in _MODELS:
        raise ValueError(
            f"A {kind} tokenizer can't be trimmed, only {', '.join(_MODELS)}: no other tokens could spell the removed "
            "words. Train a tokenizer with train_tokenizer."
        )
    model = _MODELS[kind](backend["model"])
    counter = counting_tokenizer(tokenizer)
    counts = count_tokens(tokenizer, texts).numpy()
    if not counts.any():
        raise ValueError("There is no text to trim a tokenizer to.")

    vocabulary = tokenizer.get_vocab()
    names = {index: name for name, index in vocabulary.items()}
    order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    used = [names[index] for index in order.tolist()]
    fixed = _fixed(backend, model, names) | (set(tokenizer.all_special_tokens) & vocabulary.keys())
    kept = fixed | _alphabet(model, counter, [name for name in used if name not in fixed])
    if vocab_size is not None and len(kept) > vocab_size:
        raise ValueError(
            f"vocab_size={vocab_size}, but {len(kept)} tokens are always kept (special and added tokens, bytes, single "
            "characters of the texts)."
        )
    covered = counts[order].cumsum()
    for name in used[: np.searchsorted(covered, coverage * covered[-1]) + 1]:
        missing = model.parts(name) - kept
        if vocab_size is None or len(kept) + len(missing) <= vocab_size:
            kept |= missing
    _cut(backend, model, names, kept)
    return _loaded(tokenizer, backend)


class _Model:
    """A tokenizer's model; this base class is WordPiece, which takes the longest matching token from left to right.

    Args:
        model: the model's JSON.

    Attributes:
        vocab: token -> id or score.
        prefix: prefix of tokens inside a word.
        suffix: suffix of tokens at the end of a word.
    """

    def __init__(self, model: dict):
        self.model = model
        self.vocab = dict(model["vocab"])
        self.prefix = model.get("continuing_subword_prefix") or ""
        self.suffix = model.get("end_of_word_suffix") or ""

    def fixed(self) -> set[str]:
        """Tokens that the model needs for any texts."""
        named = {self.model.get("unk_token")}
        if self.model.get("byte_fallback"):
            named.update(_byte_tokens(range(256)))
        return named & self.vocab.keys()

    def letters(self, token: str) -> list[str]:
        """The tokens of single characters (or bytes, with byte fallback) that spell a token."""
        text = token.removeprefix(self.prefix).removesuffix(self.suffix)
        if not text:
            return [token]
        letters = [self.prefix + character for character in text]
        if not token.startswith(self.prefix):
            letters[0] = text[0]
        if token.endswith(self.suffix):
            letters[-1] += self.suffix
        if not self.model.get("byte_fallback"):
            return letters
        spelled = ([letter] if letter in self.vocab else _byte_tokens(letter.encode()) for letter in letters)
        return list(chain.from_iterable(spelled))

    def parts(self, token: str) -> set[str]:
        """A token, and the intermediate tokens from which the model builds it."""
        return {token}

    def cut(self, ids: dict[str, int]) -> None:
        """Reduce the JSON to these tokens with their new ids."""
        self.model["vocab"] = {name: index for name, index in ids.items() if name in self.vocab}


class _Unigram(_Model):
    """Takes the segmentation of a text with the highest score."""

    def fixed(self) -> set[str]:
        # The score of unknown characters is the lowest score in the vocabulary minus a penalty. Without that token, it
        # would be higher, and unknown characters could be preferred to tokens that contain them.
        return super().fixed() | {min(self.vocab, key=self.vocab.get)}

    def cut(self, ids: dict[str, int]) -> None:
        self.model["vocab"] = [[name, self.vocab[name]] for name in ids if name in self.vocab]


class _BPE(_Model):
    """Repeatedly applies the first merge in the list that is possible."""

    def __init__(self, model: dict):
        super().__init__(model)
        self.ranks = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}

    def parts(self, token: str) -> set[str]:
        # No merge crosses the ends of a word's final tokens, so the merges inside a token have the same order as for
        # the token alone. If their results are kept, the first possible merge at each step is the same as before. So a
        # word whose tokens are kept is split into the same tokens again.
        pieces = self.letters(token)
        parts = set(pieces)
        while found := [(self.ranks[pair], at) for at, pair in enumerate(pairwise(pieces)) if pair in self.ranks]:
            _, at = min(found)
            pieces[at : at + 2] = [self._merged(*pieces[at : at + 2])]
            parts.add(pieces[at])
        # A token that merges can't build is matched as a whole word.
        return parts if pieces == [token] else {token}

    def cut(self, ids: dict[str, int]) -> None:
        super().cut(ids)
        merges = self.model["merges"]
        self.model["merges"] = [pair for pair in merges if {*pair, self._merged(*pair)} <= self.model["vocab"].keys()]

    def _merged(self, left: str, right: str) -> str:
        return left + right[len(self.prefix) :]


_MODELS = {"WordPiece": _Model, "BPE": _BPE, "Unigram": _Unigram}


def _byte_tokens(values: Iterable[int]) -> list[str]:
    return [f"<0x{value:02X}>" for value in values]


def _alphabet(model: _Model, counter: Tokenizer, tokens: list[str]) -> set[str]:
    """The tokens of single characters that spell all of `tokens`, and the tokens that can't be spelled in this way."""
    letters = {token: model.letters(token) for token in tokens}
    alphabet = set(chain.from_iterable(letters.values()))
    # In other words, a character may be in another position, unless it is always a separate word (CJK).
    characters = sorted({letter.removeprefix(model.prefix).removesuffix(model.suffix) for letter in alphabet})
    doubled = counter.encode_batch([2 * character for character in characters], add_special_tokens=False)
    for character, encoding in zip(characters, doubled, strict=True):
        if encoding.tokens != [character + model.suffix] * 2:
            places = (character, model.prefix + character)
            alphabet.update(place + end for place in places for end in ("", model.suffix))
    whole = [token for token, spelling in letters.items() if not model.vocab.keys() >= set(spelling)]
    return (alphabet & model.vocab.keys()).union(*map(model.parts, whole))


def _fixed(backend: dict, model: _Model, names: dict[int, str]) -> set[str]:
    """Tokens that are kept for any texts."""
    fixed = {names[holder[key]] for holder, key in _places(backend)} | model.fixed()
    if '"ByteLevel"' in json.dumps([backend["normalizer"], backend["pre_tokenizer"]]):
        fixed |= set(pre_tokenizers.ByteLevel.alphabet()) & model.vocab.keys()
    return fixed


def _places(backend: dict) -> Iterator[tuple[dict | list, str | int]]:
    """Container and key of every token id in a tokenizer's JSON outside the vocabulary."""
    yield from ((added, "id") for added in backend["added_tokens"])
    if backend["padding"]:
        yield backend["padding"], "pad_id"
    if backend["model"].get("unk_id") is not None:
        yield backend["model"], "unk_id"
    processors = [backend["post_processor"] or {}]
    for processor in processors:
        processors += processor.get("processors", [])
        yield from ((processor[role], 1) for role in ("cls", "sep") if role in processor)
        for token in processor.get("special_tokens", {}).values():
            yield from ((token["ids"], at) for at in range(len(token["ids"])))


def _cut(backend: dict, model: _Model, names: dict[int, str], kept: set[str]) -> None:
    """Reduce a tokenizer's JSON to the tokens in `kept`, with consecutive ids in the old order."""
    # Added tokens that the model lacks are numbered after its own whenever a tokenizer is loaded.
    order = sorted((name not in model.vocab, index) for index, name in names.items() if name in kept)
    ids = {names[index]: new for new, (_, index) in enumerate(order)}
    for holder, key in _places(backend):
        holder[key] = ids[names[holder[key]]]
    model.cut(ids)


def _loaded(tokenizer: PreTrainedTokenizerBase, backend: dict) -> PreTrainedTokenizerBase:
    """The tokenizer with another backend. It is saved and loaded, so it equals the one that users will load."""
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        (Path(folder) / "tokenizer.json").write_text(json.dumps(backend), encoding="utf-8")
        made = type(tokenizer).from_pretrained(folder, **{name: getattr(tokenizer, name) for name in _SETTINGS})
    made.name_or_path = made.init_kwargs["name_or_path"] = tokenizer.name_or_path
    found = json.loads(made.backend_tokenizer.to_str())
    # Loading turns all special tokens into added tokens. The other parts determine the tokens of texts and must not
    # change.
    parts = ("normalizer", "pre_tokenizer", "model", "post_processor", "decoder")
    if changed := [part for part in parts if found[part] != backend[part]]:
        raise ValueError(
            f"The {' and '.join(changed)} of a {type(tokenizer).__name__} changes when it is saved and loaded. If you "
            "changed the tokenizer yourself, save it, load it and trim the result; otherwise trim "
            "PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, ...), which saves everything."
        )
    return made
