"""Two tokenizers' tokens are tied where they share characters, and long texts are cut where both cut them."""

import itertools

import tiny
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from retort.data.tokenization import NONE
from retort.data.tokenization.spans import cut_text, find_spans


def wordpiece(*pieces, normalizer=None):
    """A tokenizer of these pieces and of single letters, with special tokens around."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = dict.fromkeys([*tiny.SPECIAL, *letters, *[f"##{letter}" for letter in letters], "the", *pieces])
    made = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(vocabulary)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if normalizer:
        made.normalizer = normalizer
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def of_bytes(add_prefix_space):
    """Byte level, a token for each byte, and none that is added."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    return made


def falling_back_to_bytes():
    """Letters and words, and for any other character its bytes, as sentencepiece models have them."""
    pieces = [*(f"<0x{byte:02X}>" for byte in range(256)), *"▁abcdeht", "th", "▁th", "▁the"]
    merges = [("t", "h"), ("▁", "th"), ("▁th", "e")]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    made = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    return made


UNCASED = normalizers.BertNormalizer(lowercase=True)
TOKENIZERS = {kind: tiny.tokenizer(kind).backend_tokenizer for kind in ("wordpiece", "bpe", "unigram")} | {
    "uncased": wordpiece(normalizer=UNCASED),
    "stripped": wordpiece(normalizer=normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])),
    "composed": wordpiece(normalizer=normalizers.NFKC()),
    "bytes": of_bytes(add_prefix_space=True),
    "bytes-without-prefix": of_bytes(add_prefix_space=False),
    "fallback": falling_back_to_bytes(),
}
PAIRS = [*itertools.product(TOKENIZERS, repeat=2)]


def spans(text, student, teacher):
    return find_spans(text, student.encode(text), teacher.encode(text))


def tied(text, student, teacher):
    """The spans of a text as the tokens of either side."""
    encodings = student.encode(text), teacher.encode(text)
    found = find_spans(text, *encodings)
    return [
        tuple(
            [token for token, owner in zip(each.tokens, owners, strict=True) if owner == number]
            for each, owners in zip(encodings, (found.student, found.teacher), strict=True)
        )
        for number in range(len(found.words))
    ]


# --- By hand ---------------------------------------------------------------------------------------------------------

SPECIAL = [(["[CLS]"], ["[CLS]"]), (["[SEP]"], ["[SEP]"])]


def test_a_span_is_one_token_each_or_one_and_several_or_several_whose_cuts_cross():
    student = wordpiece("undo", "##ing", "book", "und", "##er", "##stood")
    teacher = wordpiece("un", "##doing", "under", "##stood", "book")
    assert tied("the undoing book understood", student, teacher) == [
        (["the"], ["the"]),
        (["undo", "##ing"], ["un", "##doing"]),
        (["book"], ["book"]),
        (["und", "##er"], ["under"]),
        (["##stood"], ["##stood"]),
        *SPECIAL,
    ]


def test_words_are_what_whitespace_separates_and_characters_are_counted_without_it():
    found = spans("the  the,cat a", wordpiece("cat", ","), wordpiece("##at", ","))
    assert found.student == [5, 0, 1, 2, 3, 4, 6]
    assert found.teacher == [5, 0, 1, 2, 3, 3, 4, 6]
    assert found.words == [0, 1, 1, 1, 2, NONE, NONE]
    assert found.characters == [3, 3, 1, 3, 1, 0, 0]
    assert spans("a the", wordpiece(), TOKENIZERS["bytes"]).characters == [1, 3]


def test_repeated_words_are_told_apart_where_one_side_lost_some():
    cutting = TOKENIZERS["wordpiece"].encode("cat the cat the cat")
    cutting.truncate(4)
    found = find_spans("cat the cat the cat", cutting, TOKENIZERS["wordpiece"].encode("cat the cat the cat"))
    assert found.student == [NONE, 0, 1, 2]
    assert found.teacher == [NONE, 0, 1, 2, NONE, NONE, NONE]


def test_a_token_that_covers_the_space_too_meets_its_word():
    assert tied("the the", wordpiece(), TOKENIZERS["fallback"]) == [(["the"], ["▁the"])] * 2
    found = spans("the  the", wordpiece(), TOKENIZERS["fallback"])
    assert found.teacher == [0, NONE, 1]


def test_whitespace_that_both_sides_hold_is_a_span_without_characters_in_the_word_before():
    found = spans("a  the", TOKENIZERS["bytes-without-prefix"], TOKENIZERS["fallback"])
    assert found.words == [0, 0, 1]
    assert found.characters == [1, 0, 3]


def test_lost_capitals_accents_and_zero_width_characters_move_nothing():
    student, teacher = wordpiece("cat", "елок", normalizer=UNCASED), wordpiece("Thé\u200b", "cát", "e\u0301a", "ЁЛОК")
    assert tied("Thé\u200b cát e\u0301a ЁЛОК", student, teacher)[:4] == [
        (["the"], ["Thé\u200b"]),
        (["cat"], ["cát"]),
        (["e", "##a"], ["e\u0301a"]),
        (["елок"], ["ЁЛОК"]),
    ]


def test_all_bytes_of_a_character_are_in_its_span():
    bear = [f"<0x{byte:02X}>" for byte in "🐻".encode()]
    assert tied("a 🐻 a", wordpiece("🐻"), TOKENIZERS["fallback"])[1] == (["🐻"], bear)
    assert len(tied("🐻", TOKENIZERS["bytes"], TOKENIZERS["fallback"])) == 1


def test_special_tokens_are_tied_only_if_both_sides_add_as_many():
    alone = spans("the cat", wordpiece("cat"), TOKENIZERS["fallback"])
    assert alone.student == [NONE, 0, 1, NONE]
    both = spans("the cat", wordpiece("cat"), wordpiece("ca"))
    assert both.student == [2, 0, 1, 3]
    assert both.teacher == [2, 0, 1, 1, 3]
    assert both.words == [0, 1, NONE, NONE]


# --- Any text --------------------------------------------------------------------------------------------------------

CHARACTERS = st.sampled_from([*"abtheE,", "\u0301", "\u200b", "\u200d", "é", "ﬁ", "İ", "😀", "Ж", "й", "中", "½"])
WORD = st.one_of(st.sampled_from(["the", "cat", "The", "thé", "dog", "мир"]), st.text(CHARACTERS, max_size=4))
GAP = st.sampled_from([" ", " ", "  ", "\t", "\u3000", "\n \n"])
TEXT = st.lists(st.tuples(WORD, GAP), min_size=1, max_size=6).map(lambda parts: "".join(map("".join, parts)))
BOTH = st.sampled_from(PAIRS)


def covered(encoding):
    """The characters of each token that stands for text."""
    tokens = zip(encoding.sequence_ids, encoding.offsets, strict=True)
    return {i: set(range(*place)) for i, (text, place) in enumerate(tokens) if text is not None and place[0] < place[1]}


def runs(student, teacher):
    """Tokens that share characters, by following them from one to the next."""
    left = {(0, i): cover for i, cover in covered(student).items()}
    left |= {(1, i): cover for i, cover in covered(teacher).items()}
    found = []
    while left:
        token, cover = left.popitem()
        members, characters = {token}, set(cover)
        while more := {other for other, its in left.items() if its & characters}:
            characters = characters.union(*(left.pop(other) for other in more))
            members |= more
        found.append((min(characters), members, characters))
    return [(members, characters) for _, members, characters in sorted(found, key=lambda run: run[0])]


@settings(max_examples=300)
@given(TEXT, BOTH)
@example("the the\u200b the 😀😀 the", ("uncased", "bytes"))
@example("ﬁ½ İ e\u0301 e\u0301", ("composed", "fallback"))
def test_spans_are_the_runs_of_tokens_that_share_characters_in_the_order_of_the_text(text, kinds):
    encodings = [TOKENIZERS[kind].encode(text) for kind in kinds]
    found = find_spans(text, *encodings)
    sides = found.student, found.teacher
    expected = [run for run in runs(*encodings) if {side for side, _ in run[0]} == {0, 1}]
    for number, (members, characters) in enumerate(expected):
        owned = [{(side, i) for i, s in enumerate(owners) if s == number} for side, owners in enumerate(sides)]
        assert owned[0] | owned[1] == members
        letters = [place for place in sorted(characters) if not text[place].isspace()]
        assert found.characters[number] == len(letters)
        words_begun = len(text[: (letters or sorted(characters))[0] + 1].split())
        assert found.words[number] == max(words_begun - 1, 0)
    added = [[i for i, of in enumerate(each.sequence_ids) if of is None] for each in encodings]
    pairs = list(zip(*added, strict=True)) if len(added[0]) == len(added[1]) else []
    assert [(found.student[i], found.teacher[k]) for i, k in pairs] == [
        (len(expected) + n, len(expected) + n) for n in range(len(pairs))
    ]
    assert len(found.words) == len(found.characters) == len(expected) + len(pairs)
    assert found.words[len(expected) :] == [NONE] * len(pairs)
    if not pairs:
        assert {found.student[i] for i in added[0]} | {found.teacher[i] for i in added[1]} <= {NONE}


@settings(max_examples=100)
@given(TEXT, st.sampled_from([*TOKENIZERS]))
def test_a_tokenizer_and_itself_agree_on_every_token(text, kind):
    found = spans(text, TOKENIZERS[kind], TOKENIZERS[kind])
    assert found.student == found.teacher
    with_text = covered(TOKENIZERS[kind].encode(text))
    assert all(found.student[i] != NONE for i in with_text)


# --- Cuts ------------------------------------------------------------------------------------------------------------


def lengths(text, kinds):
    return [len(TOKENIZERS[kind].encode(text, add_special_tokens=False).ids) for kind in kinds]


def cut(text, kinds, limits):
    encodings = tuple(TOKENIZERS[kind].encode(text, add_special_tokens=False) for kind in kinds)
    return cut_text(text, encodings, limits)


def test_a_text_is_cut_between_words_where_both_sides_have_room():
    text = "the cat ran on the cat"
    assert cut(text, ("wordpiece", "wordpiece"), (4, 9)) == ["the cat ran on ", "the cat"]
    assert cut(text, ("wordpiece", "wordpiece"), (6, 6)) == [text]
    # Letters and spaces: 3, 4, 4, 3, 4 and 4 of them.
    assert cut(text, ("wordpiece", "bytes-without-prefix"), (9, 11)) == ["the cat ran", " on the cat"]
    assert cut(text, ("bytes-without-prefix", "wordpiece"), (10, 9)) == ["the cat", " ran on", " the cat"]


def test_a_word_without_room_for_it_is_cut_where_both_sides_cut_it():
    assert cut("cat dogbird cat", ("wordpiece", "bytes-without-prefix"), (4, 9)) == ["cat", " dogb", "ird cat"]


def test_a_token_that_is_too_long_for_the_other_side_stays_whole():
    assert cut("cat under cat", ("wordpiece", "bytes-without-prefix"), (4, 4)) == ["cat", " ", "under", " cat"]


SENTENCE = st.lists(
    st.sampled_from([*tiny.WORDS[:12], "the", "Thé", "мир", "😀", "a\u200bb", "unfoldings"]), min_size=1
)
# Room for any of these words. Whitespace is spaces: byte level puts one before any other at the start of a part.
ROOM = st.integers(24, 40)
SPACES = st.lists(st.sampled_from([" ", " ", "  "]), min_size=1, max_size=3)


@settings(max_examples=150)
@given(SENTENCE, SPACES, BOTH, st.tuples(ROOM, ROOM))
def test_parts_fit_both_limits_are_cut_between_words_and_make_up_the_text(words, gaps, kinds, limits):
    text = "".join(word + gap for word, gap in zip(words, itertools.cycle(gaps), strict=False))
    parts = cut(text, kinds, limits)
    assert "".join(parts) == text
    for part in parts:
        assert all(n <= limit for n, limit in zip(lengths(part, kinds), limits, strict=True))
    # No word is in two parts.
    assert [word for part in parts for word in part.split()] == text.split()
    # No cut without need: a part and the next together don't fit.
    for one, other in itertools.pairwise(parts):
        assert any(n > limit for n, limit in zip(lengths(one + other, kinds), limits, strict=True))


@settings(max_examples=100)
@given(TEXT.filter(str.strip), BOTH, st.integers(1, 3))
@example("a" * 500, ("wordpiece", "bytes"), 1)
@example("unfoldings" * 50, ("wordpiece", "bytes"), 2)
@example("😀" * 50, ("bytes", "fallback"), 1)
@example(" " * 50, ("bytes", "unigram"), 1)
def test_any_text_is_cut_to_its_end_in_parts_that_are_not_empty(text, kinds, limit):
    parts = cut(text, kinds, (limit, limit))
    assert "".join(parts) == text
    assert all(parts)


def test_one_endless_word_is_cut_into_as_many_tokens_as_fit():
    pair = ("wordpiece", "bytes-without-prefix")
    assert cut("z" * 90, pair, (20, 30)) == ["z" * 20] * 4 + ["z" * 10]
    assert cut("z" * 5, pair, (1, 1)) == ["z"] * 5
