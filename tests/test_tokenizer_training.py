"""Tokenizers trained on the text at hand."""

import pytest
import tiny
from datasets import Dataset
from transformers import AutoTokenizer, BertTokenizer

from retort.data import train_tokenizer

TEXTS = Dataset.from_dict({"text": ["der schöne Hund", "die schöne Größe", "мой йод", "a dog"] * 50})


def uncased() -> BertTokenizer:
    return BertTokenizer(vocab={piece: i for i, piece in enumerate([*tiny.SPECIAL, "a", "dog"])}, do_lower_case=True)


def test_words_of_the_text_become_tokens_and_special_ones_stay(tmp_path):
    for like in (tiny.tokenizer("bpe"), tiny.tokenizer("unigram"), uncased()):
        trained = train_tokenizer(TEXTS, like, 300)
        assert len(trained) <= 300
        assert trained.special_tokens_map == like.special_tokens_map
        ids = trained("der schöne Hund")["input_ids"]
        assert trained.unk_token_id not in ids
        assert trained.decode(ids, skip_special_tokens=True).strip().lower() == "der schöne hund"
        trained.save_pretrained(tmp_path)
        assert AutoTokenizer.from_pretrained(tmp_path)("der schöne Hund")["input_ids"] == ids


def test_accents_tell_words_apart_though_the_template_strips_them(tmp_path):
    trained = train_tokenizer(TEXTS, uncased(), 120)
    trained.save_pretrained(tmp_path)
    for tokenizer in (trained, AutoTokenizer.from_pretrained(tmp_path)):
        assert tokenizer.tokenize("Schöne") == ["schöne"]
        assert tokenizer.tokenize("мой") == ["мой"]
    assert uncased().backend_tokenizer.normalizer.normalize_str("schöne") == "schone"


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("texts", "size", "message"),
    [(TEXTS.select(range(0)), 120, "no text"), (TEXTS, 10, "vocab_size=10, but .* single characters")],
)
def test_what_no_tokenizer_can_be_trained_from_is_refused(texts, size, message):
    with pytest.raises(ValueError, match=message):
        train_tokenizer(texts, uncased(), size)
