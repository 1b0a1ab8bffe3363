"""A teacher's tokenizer trimmed to the tokens of a corpus."""

import json
import re

import pytest
import tiny
from datasets import Dataset
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    ByT5Tokenizer,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
    XLMRobertaTokenizer,
)
from trimming import CORPUS, TEXTS, bpe, tokens, trim, with_roles

from retort.data import trim_tokenizer
from retort.data.tokenization.encoder import behaviour

# What tokenizers are made from.
TRAINING = [
    "die schöne Größe der Hunde",
    "мой дом мой йод",
    "the dogs run on the rocks",
    "cats and birds",
    "日本の犬",
] * 9
XLMR = ["<s>", "<pad>", "</s>", "<unk>"]


def trained(model, trainer, pre_tokenizer):
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizer
    backend.train_from_iterator(TRAINING, trainer)
    return json.loads(backend.to_str())["model"]


def wordpiece():
    letters = sorted(set("".join(TRAINING + CORPUS)) - {" "})
    words = [word for text in TRAINING for word in text.split()]
    pieces = ["[unused]", *tiny.SPECIAL, *letters, *(f"##{letter}" for letter in letters), *words, "##s", "##und", "Hu"]
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(dict.fromkeys(pieces))}, do_lower_case=False)


def byte_level():
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=XLMR, show_progress=False
    )
    model = trained(models.BPE(), trainer, pre_tokenizers.ByteLevel(add_prefix_space=True))
    return RobertaTokenizer(
        vocab=model["vocab"] | {"<mask>": len(model["vocab"])}, merges=[tuple(pair) for pair in model["merges"]]
    )


def byte_fallback():
    trainer = trainers.BpeTrainer(vocab_size=120, limit_alphabet=30, special_tokens=XLMR, show_progress=False)
    model = trained(models.BPE(unk_token="<unk>"), trainer, pre_tokenizers.Metaspace())
    names = [*model["vocab"], *(f"<0x{value:02X}>" for value in range(256)), "<mask>"]
    vocab = {name: index for index, name in enumerate(names)}
    merges = [tuple(pair) for pair in model["merges"]]
    backend = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return with_roles(backend)


def unigram():
    trainer = trainers.UnigramTrainer(vocab_size=90, unk_token="<unk>", special_tokens=XLMR, show_progress=False)
    model = trained(models.Unigram(), trainer, pre_tokenizers.Metaspace())
    vocab = [*map(tuple, model["vocab"]), ("<mask>", 0.0)]
    return XLMRobertaTokenizer(vocab=vocab, mask_token=AddedToken("<mask>", lstrip=True, special=True))


MADE = {
    "wordpiece": wordpiece(),
    "byte_level": byte_level(),
    "byte_fallback": byte_fallback(),
    "unigram": unigram(),
    "unigram_like_bert": tiny.tokenizer("unigram"),
}
KINDS = sorted(MADE)


def reloaded(tokenizer, folder):
    tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def decoded(tokenizer, texts):
    return tokenizer.batch_decode(tokenizer(texts)["input_ids"], skip_special_tokens=True)


# --- Without a limit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_corpus_comes_to_the_same_tokens(kind, tmp_path):
    tokenizer = MADE[kind]
    before = behaviour(tokenizer)
    trimmed = trim_tokenizer(tokenizer, Dataset.from_dict(TEXTS))
    assert behaviour(tokenizer) == before
    assert len(trimmed) < len(tokenizer)
    old, new = tokenizer.get_vocab(), trimmed.get_vocab()
    assert sorted(new.values()) == list(range(len(new)))
    assert sorted(new, key=new.get) == sorted(new, key=old.get)
    again = reloaded(trimmed, tmp_path)
    for each in (trimmed, again):
        assert type(each) is type(tokenizer)
        assert each.special_tokens_map == tokenizer.special_tokens_map
        assert each.get_vocab() == new
        assert each(CORPUS, CORPUS[::-1]).get("token_type_ids") == tokenizer(CORPUS, CORPUS[::-1]).get("token_type_ids")
        assert tokens(each, CORPUS, CORPUS[::-1]) == tokens(tokenizer, CORPUS, CORPUS[::-1])


def template(cls, sep):
    pair = "<s> $A </s> $B:1 </s>:1"
    return processors.TemplateProcessing(single="<s> $A </s>", pair=pair, special_tokens=[cls, sep])


@pytest.mark.parametrize(
    "processor",
    [
        template,
        lambda cls, sep: processors.BertProcessing(sep, cls),
        lambda cls, sep: processors.RobertaProcessing(sep, cls),
        lambda cls, sep: processors.Sequence([processors.ByteLevel(), template(cls, sep)]),
    ],
)
def test_ids_are_numbered_anew_wherever_they_stand(processor, tmp_path):
    """Special tokens stand last, where their ids change the most."""
    names = ["<unk>", "<pad>", "</s>", "<mask>", "<s>"]
    pieces = ["▁", *"acdefghiknorstuöxyz", "▁the", "▁no", *names]
    backend = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=pieces.index("<unk>")))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.post_processor = processor(("<s>", pieces.index("<s>")), ("</s>", pieces.index("</s>")))
    tokenizer = with_roles(backend)
    half = trim(tokenizer, ["the no"], coverage=0.5).get_vocab()
    assert half.keys() & {"▁the", "▁no"} == {"▁the"}
    tokenizer(CORPUS, padding="max_length", truncation=True, max_length=4)  # which its backend remembers
    assert tokenizer.backend_tokenizer.padding
    assert trim(tokenizer, ["the no"], coverage=0.5).get_vocab() == half
    trimmed = trim(tokenizer)
    assert trimmed.convert_ids_to_tokens(range(len(trimmed)))[-5:] == names
    assert trimmed.backend_tokenizer.padding["pad_id"] == trimmed.pad_token_id == len(trimmed) - 4
    for each in (trimmed, reloaded(trimmed, tmp_path)):
        assert tokens(each, CORPUS, CORPUS[::-1]) == tokens(tokenizer, CORPUS, CORPUS[::-1])
        assert tokens(each, ["日 the"])[0][1:-1] == ["▁", "<unk>", "▁the"]
        assert each("the", padding="max_length", max_length=9)["input_ids"][-1] == each.pad_token_id


def test_the_mask_stays_the_last_token_and_takes_the_space_before_it(tmp_path):
    trimmed = trim(MADE["unigram"])
    for each in (trimmed, reloaded(trimmed, tmp_path)):
        assert each.mask_token_id == len(each) - 1
        assert [each.convert_tokens_to_ids(name) for name in XLMR] == [0, 1, 2, 3]
        assert each.convert_ids_to_tokens(each("the <mask>")["input_ids"])[-2:] == ["<mask>", "</s>"]
        assert each.convert_ids_to_tokens(each("the <mask>")["input_ids"])[-3] != "▁"


def test_added_tokens_stay_with_their_flags_in_the_vocabulary_and_beyond(tmp_path):
    tokenizer = wordpiece()
    inside, beyond = AddedToken("birds", single_word=True), AddedToken("<e1>", rstrip=True, normalized=False)
    tokenizer.add_tokens([inside, beyond])
    tokenizer.add_special_tokens({"extra_special_tokens": ["<e2>"]})
    trimmed = trim(tokenizer)
    for each in (trimmed, reloaded(trimmed, tmp_path)):
        assert each.convert_ids_to_tokens(range(len(each)))[-2:] == ["<e1>", "<e2>"]
        added = {token.content: token for token in each.added_tokens_decoder.values()}
        assert (added["birds"].single_word, added["<e1>"].rstrip, added["<e2>"].special) == (True, True, True)
        assert not added["<e1>"].special
        assert each.vocab_size == len(each) - 2
        assert tokens(each, ["the <e1> birds<e2>"])[0][1:-1] == ["the", "<e1>", "birds", "<e2>"]


def test_settings_stay(tmp_path):
    tokenizer = wordpiece()
    tokenizer.padding_side = tokenizer.truncation_side = "left"
    tokenizer.model_max_length = 5
    tokenizer.name_or_path = "teacher"
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    trimmed = trim(tokenizer)
    expected = tokenizer(["der Hund der Hund", "der"], padding=True, truncation=True)
    assert len(expected["input_ids"][0]) == 5
    assert expected["input_ids"][1][0] == tokenizer.pad_token_id
    for each in (trimmed, reloaded(trimmed, tmp_path)):
        ours = each(["der Hund der Hund", "der"], padding=True, truncation=True)
        assert ours.keys() == expected.keys() == {"input_ids", "attention_mask"}
        assert [each.convert_ids_to_tokens(ids) for ids in ours["input_ids"]] == [
            tokenizer.convert_ids_to_tokens(ids) for ids in expected["input_ids"]
        ]
        assert each.do_lower_case is False
        assert each.tokenize("Hund") == tokenizer.tokenize("Hund")
    assert trimmed.name_or_path == "teacher"


def test_a_token_that_was_given_a_role_stays_where_it_was(tmp_path):
    tokenizer = wordpiece()
    tokenizer.bos_token = "[unused]"
    trimmed = trim(tokenizer)
    for each in (trimmed, reloaded(trimmed, tmp_path)):
        assert each.bos_token_id == 0
        assert len(each) == len(trim(wordpiece())) + 1


def test_special_tokens_that_are_read_as_text_are_counted_as_text(tmp_path):
    names = [*tiny.SPECIAL, "[", "MASK", "never", "]"]
    vocab = {name: index for index, name in enumerate(names)}
    tokenizer = BertTokenizer(vocab=vocab, do_lower_case=False, split_special_tokens=True)
    trimmed = trim(tokenizer, ["[MASK]"])
    assert trimmed.get_vocab().keys() == set(names) - {"never"}
    for each in (trimmed, reloaded(trimmed, tmp_path)):
        assert each.tokenize("[MASK]") == tokenizer.tokenize("[MASK]") == ["[", "MASK", "]"]


# --- What is kept besides ---------------------------------------------------------------------------------------------


def test_a_new_word_of_the_same_characters_does_not_become_unknown():
    trimmed = trim(MADE["wordpiece"], ["Hund", "日本"])
    assert trimmed.tokenize("dHn uu") == ["d", "##H", "##n", "u", "##u"]
    # Such a character is always a word of its own.
    assert "##日" in MADE["wordpiece"].get_vocab().keys() - trimmed.get_vocab().keys()


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback"])
def test_bytes_spell_what_the_corpus_lacks(kind):
    text = " Ελλάδα 🚀 the Größe\n"
    trimmed = trim(MADE[kind], ["the rocks"])
    assert decoded(trimmed, [text]) == decoded(MADE[kind], [text])
    assert text.strip() in decoded(trimmed, [text])[0]


def test_tokens_with_a_character_that_has_no_token_stay_whole():
    vocab = {piece: i for i, piece in enumerate([*tiny.SPECIAL, *"Maße", "##a", "##e", "Ma", "##ße", "##ß", "Maß"])}
    del vocab["##ß"]
    vocab["##ße"] = len(vocab) - 1
    vocab["Maß"] = len(vocab) - 2
    tokenizer = BertTokenizer(vocab=vocab, do_lower_case=False)
    assert tokenizer.tokenize("Maße") == ["Maß", "##e"]
    trimmed = trim(tokenizer, ["Maße"] + ["a"] * 99, coverage=0.9)
    assert trimmed.tokenize("Maße") == ["Maß", "##e"]
    assert "Ma" not in trimmed.get_vocab()


@pytest.mark.parametrize(("prefix", "suffix"), [("", ""), ("##", ""), ("", "</w>")])
def test_a_token_keeps_what_it_is_merged_from_and_no_other_way_to_it(prefix, suffix):
    a, b, c, d = "a", f"{prefix}b", f"{prefix}c", f"{prefix}d{suffix}"
    ab, bc, cd, abc, bcd = "ab", f"{prefix}bc", f"{prefix}cd{suffix}", "abc", f"{prefix}bcd{suffix}"
    merges = [(a, b), (b, c), (c, d), (a, bc), (ab, cd), (abc, d), (b, cd), (a, bcd)]
    affixes = {"continuing_subword_prefix": prefix, "end_of_word_suffix": suffix}
    tokenizer = bpe(merges, [a, b, c, d], **{name: affix for name, affix in affixes.items() if affix})
    assert tokenizer.tokenize("abcd") == [f"abcd{suffix}"]
    trimmed = trim(tokenizer, ["abcd"])
    assert trimmed.get_vocab().keys() == {"<unk>", a, b, c, d, ab, cd, f"abcd{suffix}"}
    kept = json.loads(trimmed.backend_tokenizer.to_str())["model"]["merges"]
    assert kept == [[a, b], [c, d], [ab, cd]]
    # Letters are always kept; a token and all that it is made from are, or none of them.
    assert len(trim(tokenizer, ["abcd"], vocab_size=7)) == 5
    assert trim(tokenizer, ["abcd"], vocab_size=8).tokenize("abcd") == [f"abcd{suffix}"]


def test_bytes_spell_a_character_that_has_no_token():
    names = ["<unk>", "a", "ab", *(f"<0x{value:02X}>" for value in range(256))]
    model = models.Unigram([(name, -1.0) for name in names], unk_id=0, byte_fallback=True)
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = with_roles(backend)
    assert tokenizer.tokenize("ab") == ["ab"]
    assert trim(tokenizer, ["a a ab"], coverage=0.5).tokenize("ab") == ["a", "<0x62>"]


def test_a_token_of_nothing_but_the_mark_of_an_inner_one_stays():
    backend = Tokenizer(models.WordPiece({"<unk>": 0, "a": 1, "##": 2}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    assert trim(with_roles(backend), ["##"]).get_vocab() == {"<unk>": 0, "##": 1}


def test_the_lowest_score_stays_as_unknown_characters_are_weighed_by_it():
    pieces = {"<unk>": 0.0, "a": -12.0, "bc": -12.0, "b": -12.0, "ab": -1.0, "never": -30.0, "rarely": -20.0}
    backend = Tokenizer(models.Unigram(list(pieces.items()), unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = with_roles(backend)
    trimmed = trim(tokenizer, ["abc ab"])
    assert trimmed.tokenize("abc ab") == tokenizer.tokenize("abc ab") == ["a", "bc", "ab"]
    assert trimmed.get_vocab().keys() == pieces.keys() - {"rarely"}


# --- With a limit -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_smaller_pieces_spell_what_a_limit_leaves_out(kind, tmp_path):
    tokenizer = MADE[kind]
    full = len(trim(tokenizer))
    smaller = [trim(tokenizer, coverage=0.3), trim(tokenizer, vocab_size=full - 2)]
    for trimmed in (*smaller, reloaded(smaller[1], tmp_path)):
        assert len(trimmed) <= full - 2
        assert decoded(trimmed, CORPUS) == decoded(tokenizer, CORPUS)
    assert tokens(smaller[1], CORPUS) != tokens(tokenizer, CORPUS)


def test_the_most_frequent_tokens_are_kept():
    texts = ["the"] * 90 + ["Hu"] * 8 + ["dogs"] * 2

    def words(**limits):
        return {"the", "Hu", "dogs"} & trim(MADE["wordpiece"], texts, **limits).get_vocab().keys()

    assert words() == words(coverage=0.981) == {"the", "Hu", "dogs"}
    assert words(coverage=0.98) == words(coverage=0.901) == {"the", "Hu"}
    assert words(coverage=0.9) == words(coverage=1e-9) == {"the"}
    everything = len(trim(MADE["wordpiece"], texts))
    assert words(vocab_size=everything) == {"the", "Hu", "dogs"}
    assert words(vocab_size=everything - 1) == {"the", "Hu"}
    assert words(vocab_size=everything - 1, coverage=0.9) == words(vocab_size=everything - 2) == {"the"}
    assert words(vocab_size=everything - 3) == set()


# --- Errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("tokenizer", "texts", "limits", "message"),
    [
        (ByT5Tokenizer(), CORPUS, {}, "ByT5Tokenizer is a slow tokenizer"),
        (MADE["wordpiece"], [], {}, "no text"),
        (MADE["wordpiece"], ["", " "], {}, "no text"),
        (MADE["wordpiece"], CORPUS, {"coverage": 0}, "coverage=0, .* above 0"),
        (MADE["wordpiece"], CORPUS, {"coverage": 99.9}, "coverage=99.9, .* at most 1"),
        (
            with_roles(Tokenizer(models.WordLevel({"<unk>": 0}, "<unk>"))),
            CORPUS,
            {},
            "WordLevel tokenizer .* train_tokenizer",
        ),
    ],
)
def test_what_can_not_be_trimmed_is_refused(tokenizer, texts, limits, message):
    with pytest.raises(ValueError, match=message):
        trim(tokenizer, texts, **limits)


@pytest.mark.promise(9)
@pytest.mark.parametrize("kind", KINDS)
def test_a_size_below_what_is_always_kept_is_refused_with_the_size_that_is_not(kind):
    with pytest.raises(ValueError, match=r"vocab_size=3, but \d+ tokens are always kept") as refusal:
        trim(MADE[kind], vocab_size=3)
    least = int(re.search(r"but (\d+) tokens", str(refusal.value))[1])
    assert len(trim(MADE[kind], vocab_size=least)) == least
    with pytest.raises(ValueError, match=f"vocab_size={least - 1}, .* {least}"):
        trim(MADE[kind], vocab_size=least - 1)


@pytest.mark.promise(9)
def test_a_tokenizer_that_would_be_loaded_as_another_is_refused():
    tokenizer = wordpiece()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace(Regex("ö"), "o")
    with pytest.raises(ValueError, match="normalizer of a BertTokenizer changes"):
        trim(tokenizer)
    roles = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, **roles)
    assert tokens(trim(wrapped), CORPUS) == tokens(tokenizer, CORPUS)
