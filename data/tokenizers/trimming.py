"""A teacher's own tokenizer, with no more tokens than a corpus needs."""

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

# What may be set on a tokenizer after it was made, and is then not saved with it.
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

    Without a limit, all tokens that the texts come to are kept, and the texts come to the same tokens as before. With
    one, the most frequent are kept, and smaller pieces spell the rest. Tokens keep their order; their ids close up.

    Always kept are special and added tokens, the bytes of tokenizers that know them, and each character of the texts as
    a token of its own: words of these characters don't become unknown. Where the tokenizer has no such token for a
    character, all tokens of the texts that hold it are kept.

    Args:
        tokenizer: a fast one: WordPiece, BPE or Unigram. It stays as it is.
        texts: columns of strings, in all languages that the student is for.
        vocab_size: tokens at most, special ones among them.
        coverage: the share of the texts, counted in tokens, that the most frequent ones make up: 0.999 leaves out the
            rare ones that together are one token in a thousand. With `vocab_size` too, both limits hold.

    Returns:
        A tokenizer of the same class, with the same special tokens and settings.

    Raises:
        ValueError: a slow tokenizer or one of another kind, no text, a coverage that is no share, a `vocab_size` too
            small for what is always kept, or a tokenizer that was changed in ways that it doesn't save.
    """
    require_fast(tokenizer)
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage={coverage}, but it is a share of the texts: above 0, and 1 at most.")
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    if (kind := backend["model"]["type"]) not in _MODELS:
        raise ValueError(
            f"A tokenizer of the kind {kind} can't be trimmed, only one of {', '.join(_MODELS)}: nothing would spell "
            "the words left out. Train one with train_tokenizer."
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
            f"vocab_size={vocab_size}, but the tokens that are always kept (special and added ones, bytes, single "
            f"characters of the texts) alone come to {len(kept)}."
        )
    covered = counts[order].cumsum()
    for name in used[: np.searchsorted(covered, coverage * covered[-1]) + 1]:
        missing = model.parts(name) - kept
        if vocab_size is None or len(kept) + len(missing) <= vocab_size:
            kept |= missing
    _cut(backend, model, names, kept)
    return _loaded(tokenizer, backend)


class _Model:
    """A tokenizer's model; this one, WordPiece: from left to right, the longest token that fits is taken.

    Args:
        model: its JSON.

    Attributes:
        vocab: its tokens.
        prefix: what tokens inside a word begin with.
        suffix: what tokens at the end of a word end with.
    """

    def __init__(self, model: dict):
        self.model = model
        self.vocab = dict(model["vocab"])
        self.prefix = model.get("continuing_subword_prefix") or ""
        self.suffix = model.get("end_of_word_suffix") or ""

    def fixed(self) -> set[str]:
        """Tokens that the model needs whatever the texts."""
        named = {self.model.get("unk_token")}
        if self.model.get("byte_fallback"):
            named.update(_byte_tokens(range(256)))
        return named & self.vocab.keys()

    def letters(self, token: str) -> list[str]:
        """The tokens of single characters (or bytes, where the model falls back on them) that spell a token."""
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
        """A token, and those that the model makes on the way to it."""
        return {token}

    def cut(self, ids: dict[str, int]) -> None:
        """Leave only some tokens in the JSON, numbered anew."""
        self.model["vocab"] = {name: index for name, index in ids.items() if name in self.vocab}


class _Unigram(_Model):
    """Of all ways to divide a text, the one of the highest scores is taken."""

    def fixed(self) -> set[str]:
        # Unknown characters count as the lowest score there is, less a penalty: without it, they would count as more,
        # and win over tokens that hold them.
        return super().fixed() | {min(self.vocab, key=self.vocab.get)}

    def cut(self, ids: dict[str, int]) -> None:
        self.model["vocab"] = [[name, self.vocab[name]] for name in ids if name in self.vocab]


class _BPE(_Model):
    """Of all merges that fit, the one listed first is done, again and again."""

    def __init__(self, model: dict):
        super().__init__(model)
        self.ranks = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}

    def parts(self, token: str) -> set[str]:
        # No merge reached across the ends of a token that a word came to, so those within came in the same order as in
        # the token alone. With all that they make kept, the first of the merges left is, at each step, the one that
        # was first of all; so a word whose tokens are kept comes to them again.
        pieces = self.letters(token)
        parts = set(pieces)
        while found := [(self.ranks[pair], at) for at, pair in enumerate(pairwise(pieces)) if pair in self.ranks]:
            _, at = min(found)
            pieces[at : at + 2] = [self._merged(*pieces[at : at + 2])]
            parts.add(pieces[at])
        # A token that merges don't make is matched as a whole word.
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
    """The tokens of single characters that spell all of `tokens`, and those that can't be spelled so."""
    letters = {token: model.letters(token) for token in tokens}
    alphabet = set(chain.from_iterable(letters.values()))
    # In another word, a character may stand at another place; but not if it always is a word of its own (CJK).
    characters = sorted({letter.removeprefix(model.prefix).removesuffix(model.suffix) for letter in alphabet})
    doubled = counter.encode_batch([2 * character for character in characters], add_special_tokens=False)
    for character, encoding in zip(characters, doubled, strict=True):
        if encoding.tokens != [character + model.suffix] * 2:
            places = (character, model.prefix + character)
            alphabet.update(place + end for place in places for end in ("", model.suffix))
    whole = [token for token, spelling in letters.items() if not model.vocab.keys() >= set(spelling)]
    return (alphabet & model.vocab.keys()).union(*map(model.parts, whole))


def _fixed(backend: dict, model: _Model, names: dict[int, str]) -> set[str]:
    """Tokens that are kept whatever the texts."""
    fixed = {names[holder[key]] for holder, key in _places(backend)} | model.fixed()
    if '"ByteLevel"' in json.dumps([backend["normalizer"], backend["pre_tokenizer"]]):
        fixed |= set(pre_tokenizers.ByteLevel.alphabet()) & model.vocab.keys()
    return fixed


def _places(backend: dict) -> Iterator[tuple[dict | list, str | int]]:
    """Where a tokenizer's JSON names tokens by id, but for its vocabulary: what holds the id, and the key to it."""
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
    """Leave only some tokens in a tokenizer's JSON, numbered anew in the old order."""
    # Added tokens that the model lacks are numbered after its own whenever a tokenizer is loaded.
    order = sorted((name not in model.vocab, index) for index, name in names.items() if name in kept)
    ids = {names[index]: new for new, (_, index) in enumerate(order)}
    for holder, key in _places(backend):
        holder[key] = ids[names[holder[key]]]
    model.cut(ids)


def _loaded(tokenizer: PreTrainedTokenizerBase, backend: dict) -> PreTrainedTokenizerBase:
    """A tokenizer with another backend, by way of what it saves: so it is what will be loaded again."""
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        (Path(folder) / "tokenizer.json").write_text(json.dumps(backend), encoding="utf-8")
        made = type(tokenizer).from_pretrained(folder, **{name: getattr(tokenizer, name) for name in _SETTINGS})
    made.name_or_path = made.init_kwargs["name_or_path"] = tokenizer.name_or_path
    found = json.loads(made.backend_tokenizer.to_str())
    # Loading makes added tokens of all that have a role; the rest is what texts come to, and may not change.
    parts = ("normalizer", "pre_tokenizer", "model", "post_processor", "decoder")
    if changed := [part for part in parts if found[part] != backend[part]]:
        raise ValueError(
            f"A {type(tokenizer).__name__} doesn't save its {' and '.join(changed)} as it is: loaded again, it is "
            "another. If it was changed by hand, save it, load it and trim that one; else trim "
            "PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, ...), which saves everything."
        )
    return made
