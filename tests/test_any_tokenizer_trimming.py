"""Trimming, whatever the tokenizer's model and the corpus."""

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from trimming import bpe, tokens, trim, with_roles

LETTERS = "ab"
# With a character that BPE never knows, and the others perhaps.
CORPORA = st.lists(st.text(LETTERS + "c ", min_size=2, max_size=12), min_size=1, max_size=4).filter(
    lambda texts: any(map(str.split, texts))
)
PIECES = st.lists(st.text(LETTERS + "c", min_size=1, max_size=4), max_size=12)


@st.composite
def merged(draw):
    """A BPE model: any merges of any symbols, several ways to a token among them."""
    prefix, suffix = draw(st.sampled_from([("", ""), ("##", ""), ("", "_")]))
    letters = list(dict.fromkeys([*LETTERS, *(prefix + letter + suffix for letter in LETTERS)]))
    symbols, merges = list(letters), []
    for _ in range(draw(st.integers(3, 14))):
        left = draw(st.sampled_from([each for each in symbols if not suffix or not each.endswith(suffix)]))
        right = draw(st.sampled_from([each for each in symbols if each.startswith(prefix)]))
        if (left, right) not in merges:
            merges.append((left, right))
            symbols.append(left + right[len(prefix) :])
    affixes = {"continuing_subword_prefix": prefix, "end_of_word_suffix": suffix}
    options = {name: affix for name, affix in affixes.items() if affix}
    return bpe(merges, letters, ignore_merges=draw(st.booleans()), **options)


@st.composite
def scored(draw, letters=()):
    """A Unigram model; characters may have no piece of their own."""
    pieces = dict.fromkeys([*letters, *draw(PIECES)])
    scores = {piece: draw(st.integers(-20, 0)) / 2 for piece in pieces}
    backend = Tokenizer(models.Unigram([("<unk>", 0.0), *scores.items()], unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return with_roles(backend)


@st.composite
def longest(draw, letters=()):
    """A WordPiece model; characters may have no piece of their own."""
    inside = draw(st.lists(st.booleans(), min_size=12, max_size=12))
    pieces = ["##" * within + piece for piece, within in zip(draw(PIECES), inside, strict=False)]
    names = ["<unk>", *letters, *(f"##{letter}" for letter in letters), *pieces]
    vocab = {name: index for index, name in enumerate(dict.fromkeys(names))}
    backend = Tokenizer(models.WordPiece(vocab, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return with_roles(backend)


@given(merged() | scored() | longest(), CORPORA)
def test_any_corpus_comes_to_the_same_tokens(tokenizer, texts):
    assert tokens(trim(tokenizer, texts), texts) == tokens(tokenizer, texts)


@given(merged() | scored(LETTERS + "c") | longest(LETTERS + "c"), CORPORA, st.floats(0.01, 1))
def test_any_corpus_is_spelled_whatever_the_limit(tokenizer, texts, coverage):
    trimmed = trim(tokenizer, texts, coverage=coverage)
    for before, after in zip(tokens(tokenizer, texts), tokens(trimmed, texts), strict=True):
        assert spelled(after) == spelled(before)


def spelled(names):
    return "".join(names).replace("##", "").replace("_", "")
