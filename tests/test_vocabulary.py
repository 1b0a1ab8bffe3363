"""Tokens spelled in another vocabulary, and students that have one of their own."""

import pytest
import tiny
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import BertTokenizer, MobileBertConfig, MobileBertForMaskedLM, PreTrainedTokenizerFast

from retort import shrink
from retort.data import count_tokens, trim_tokenizer
from retort.modeling.vocabularies import ROLES, Spelling, spell, vocabulary_size

KINDS = ("wordpiece", "bpe", "unigram")
TOKENIZERS = {kind: tiny.tokenizer(kind) for kind in KINDS}


def text_of(tokenizer, ids):
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False).strip().removeprefix("##")


@pytest.mark.parametrize("by", KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_pieces_of_a_token_make_its_text(kind, by):
    tokenizer, other = TOKENIZERS[kind], TOKENIZERS[by]
    spelling = spell(tokenizer, other)
    special = set(tokenizer.all_special_ids)
    spelled = [token for token in range(vocabulary_size(tokenizer)) if spelling[token] and token not in special]
    assert len(spelled) > 50
    for token in spelled:
        assert text_of(other, spelling[token]) == text_of(tokenizer, [token])


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_spells_itself(kind):
    spelling = spell(TOKENIZERS[kind], TOKENIZERS[kind])
    for token in range(len(spelling.counts)):
        assert spelling[token] in ([token], [])
    assert int((spelling.counts == 0).sum()) <= 1  # the mark of a beginning word, which is no text


def test_tokens_inside_words_are_spelled_by_pieces_inside_words():
    wordpiece, bpe, unigram = (TOKENIZERS[kind] for kind in KINDS)
    inside = wordpiece.convert_tokens_to_ids("##o")
    assert bpe.convert_ids_to_tokens(spell(wordpiece, bpe)[inside]) == ["o"]
    assert unigram.convert_ids_to_tokens(spell(wordpiece, unigram)[inside]) == ["o"]
    start = wordpiece.convert_tokens_to_ids("o")
    assert bpe.convert_ids_to_tokens(spell(wordpiece, bpe)[start])[0].startswith("Ġ")
    token = bpe.convert_tokens_to_ids("o")
    assert wordpiece.convert_ids_to_tokens(spell(bpe, wordpiece)[token]) == ["##o"]


def llama_2():
    """A tokenizer that puts a space before every text itself, as Llama 2's does."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    merges = [("▁", letter) for letter in letters] + [("▁c", "a"), ("▁ca", "t")]
    pieces = ["<unk>", "▁", *letters, *map("".join, merges)]
    backend = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, merges, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(steps)
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


def test_a_tokenizer_that_puts_a_space_before_every_text_spells_and_is_spelled():
    llama, wordpiece = llama_2(), TOKENIZERS["wordpiece"]
    spelling = spell(llama, llama)
    assert all(spelling[token] in ([token], []) for token in range(len(spelling.counts)))
    assert int((spelling.counts == 0).sum()) <= 1
    spelling = spell(wordpiece, llama)
    for token, pieces in {"##a": ["a"], "a": ["▁a"], "cat": ["▁cat"], "ran": ["▁r", "a", "n"]}.items():
        index = wordpiece.convert_tokens_to_ids(token)
        if index != wordpiece.unk_token_id:
            assert llama.convert_ids_to_tokens(spelling[index]) == pieces
    spelling = spell(llama, wordpiece)
    for token, pieces in {"a": ["##a"], "▁a": ["a"], "▁ca": ["c", "##a"]}.items():
        assert wordpiece.convert_ids_to_tokens(spelling[llama.convert_tokens_to_ids(token)]) == pieces


def test_special_tokens_go_by_their_role():
    other = tiny.tokenizer("bpe")
    other.add_special_tokens({"pad_token": "<nothing>", "mask_token": "<hidden>"})
    spelling = spell(TOKENIZERS["wordpiece"], other)
    for role in ROLES:
        ours = getattr(TOKENIZERS["wordpiece"], f"{role}_token_id")
        if ours is not None:
            assert spelling[ours] == [getattr(other, f"{role}_token_id")]


@given(st.lists(st.lists(st.integers(0, 6), max_size=4), min_size=1, max_size=9))
def test_the_mean_of_pieces_is_the_mean_by_weights_if_there_are_any(tokens):
    rows = torch.randn(7, 3)
    flat = torch.tensor([piece for pieces in tokens for piece in pieces], dtype=torch.long)
    spelling = Spelling(flat, torch.tensor([len(pieces) for pieces in tokens]))
    for made, pieces in zip(spelling.mean(rows), tokens, strict=True):
        torch.testing.assert_close(made, rows[pieces].mean(0) if pieces else torch.zeros(3))
    weights = torch.arange(1.0, len(rows) + 1)
    for made, pieces in zip(spelling.mean(rows, weights), tokens, strict=True):
        expected = (weights[pieces, None] * rows[pieces]).sum(0) / weights[pieces].sum()
        torch.testing.assert_close(made, expected if pieces else torch.zeros(3))
    assert [spelling[index] for index in range(len(tokens))] == tokens


# --- Students ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("task", ["encoder", "masked_lm"])
def test_a_students_rows_are_the_mean_of_its_teachers(family, task):
    teacher, own = tiny.model(family, task), TOKENIZERS["unigram"]
    student = shrink(teacher, tokenizer=own, teacher_tokenizer=TOKENIZERS["wordpiece"])
    size = vocabulary_size(own)
    spelling = spell(own, TOKENIZERS["wordpiece"])
    assert student.config.vocab_size == size
    theirs, ours = (model.get_input_embeddings().weight for model in (teacher, student))
    assert len(ours) == size
    for token in range(size):
        expected = theirs[spelling[token]] if spelling[token] else theirs
        torch.testing.assert_close(ours[token], expected.mean(0))
    if task == "masked_lm":
        logits = student(torch.tensor([[7, 8, 9]])).logits
        assert logits.shape == (1, 3, size)


def test_a_students_rows_are_a_mean_by_the_counts_of_pieces_where_that_is_asked():
    teacher, own, theirs = tiny.model(), TOKENIZERS["unigram"], TOKENIZERS["wordpiece"]
    counts = count_tokens(theirs, Dataset.from_dict({"text": tiny.sentences(40)}))
    student = shrink(teacher, tokenizer=own, teacher_tokenizer=theirs, piece_counts=counts)
    before, after = (model.get_input_embeddings().weight for model in (teacher, student))
    spelling, weights = spell(own, theirs), counts.clamp_min(1).float()
    several = [token for token in range(vocabulary_size(own)) if len(set(weights[spelling[token]].tolist())) > 1]
    assert several
    for token in several:
        pieces = spelling[token]
        torch.testing.assert_close(after[token], weights[pieces] @ before[pieces] / weights[pieces].sum())
    with pytest.raises(ValueError, match=r"piece_counts has 3 numbers.*count_tokens"):
        shrink(teacher, tokenizer=own, teacher_tokenizer=theirs, piece_counts=counts[:3])


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_the_same_tokens_in_another_order_compute_the_same(family):
    """A word-level twin of the teacher's tokenizer, its padding elsewhere: nothing but the numbers may change."""
    teacher, old = tiny.model(family, "masked_lm"), TOKENIZERS["wordpiece"]
    names = sorted(old.get_vocab(), key=lambda name: (name != "river", name))  # [PAD] isn't first any more
    new = BertTokenizer(vocab={name: index for index, name in enumerate(names)}, do_lower_case=False)
    student = shrink(teacher, tokenizer=new, teacher_tokenizer=old)
    renamed = {old.get_vocab()[name]: index for index, name in enumerate(names)}
    ids = torch.tensor([[2, 20, 33, 41, 3], [2, 50, 3, 0, 0]])
    mask = (ids != 0).long()
    own = ids.clone().apply_(renamed.get)
    with torch.no_grad():
        theirs = teacher(input_ids=ids, attention_mask=mask).logits
        ours = student(input_ids=own, attention_mask=mask).logits
    order = torch.tensor([old.get_vocab()[name] for name in names])
    torch.testing.assert_close(ours[mask.bool()], theirs[mask.bool()][:, order])
    assert student.config.pad_token_id == new.pad_token_id != 0


def test_a_vocabulary_goes_together_with_all_else():
    teacher = tiny.model("xlm-roberta", "masked_lm", layers=4)
    student = shrink(
        teacher,
        layers=[0, 3],
        hidden_size=16,
        recurrent_steps=2,
        embedding_size=8,
        tokenizer=TOKENIZERS["bpe"],
        teacher_tokenizer=TOKENIZERS["wordpiece"],
    )
    assert student(torch.tensor([[7, 8, 9]])).logits.shape == (1, 3, vocabulary_size(TOKENIZERS["bpe"]))


@pytest.mark.promise(9)
def test_what_can_not_be_spelled_is_refused():
    with pytest.raises(ValueError, match=r"needs teacher_tokenizer=.* but got none"):
        shrink(tiny.model("bert"), tokenizer=TOKENIZERS["bpe"])
    small = tiny.model("bert", vocab_size=20)
    with pytest.raises(ValueError, match="20 word embeddings, but got one with 78 tokens"):
        shrink(small, tokenizer=TOKENIZERS["bpe"], teacher_tokenizer=TOKENIZERS["wordpiece"])


def test_tokens_that_can_not_be_spelled_are_counted(caplog):
    other = tiny.tokenizer("bpe")
    other.add_tokens(["日本"])
    with caplog.at_level("WARNING"):
        shrink(tiny.model("bert"), tokenizer=other, teacher_tokenizer=TOKENIZERS["wordpiece"])
    assert "of 146 tokens can't be spelled" in caplog.text


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_what_is_left_of_a_trimmed_vocabulary_is_spelled_by_itself(kind):
    whole = tiny.tokenizer(kind, vocab_size=300)
    whole.add_special_tokens({"extra_special_tokens": ["<lang>"]})
    left = trim_tokenizer(whole, Dataset.from_dict({"text": ["the cat sat", "пёс 🐕"]}))
    spelling = spell(left, whole)
    assert len(left) < len(whole)
    assert spelling.counts.tolist() == [1] * len(left)
    names = whole.convert_ids_to_tokens(spelling.pieces.tolist())
    assert names == left.convert_ids_to_tokens(range(len(left)))


def test_an_output_layer_with_the_vocabulary_on_its_second_axis_is_spelled_too():
    """MobileBERT has one, for the channels that its factorised word embeddings lack."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "embedding_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    narrow = {"intra_bottleneck_size": 16, "true_hidden_size": 16, "intermediate_size": 48}
    teacher = MobileBertForMaskedLM(MobileBertConfig(vocab_size=tiny.VOCAB_SIZE, **sizes, **narrow)).eval()
    ours, theirs = TOKENIZERS["unigram"], TOKENIZERS["wordpiece"]
    student, spelling = shrink(teacher, tokenizer=ours, teacher_tokenizer=theirs), spell(ours, theirs)
    before, after = (model.cls.predictions.dense.weight for model in (teacher, student))
    assert after.shape == (16, vocabulary_size(ours))
    spelled = [token for token in range(vocabulary_size(ours)) if spelling[token]]
    for token in spelled:
        torch.testing.assert_close(after[:, token], before[:, spelling[token]].mean(1))
