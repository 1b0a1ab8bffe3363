"""What is hidden depends on seed, epoch and text alone, is the same for student and teacher, and as much as asked."""

import copy
import functools
import math

import pytest
import tiny
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from retort import DistillationCollator
from retort.collators import (
    Filler,
    InputFormat,
    MaskedBatch,
    Masking,
    SpanBatch,
    SpanCollator,
    fractions,
    masking_chances,
    mixed,
)
from retort.data import tokenize_spans

PADDED, PACKED = InputFormat(pad_token_id=0), InputFormat(pad_token_id=0, packed=True)
TOKENIZERS = {kind: tiny.tokenizer(kind) for kind in ("wordpiece", "wordpiece, other words", "bpe", "unigram")}
STUDENT, TEACHER = (TOKENIZERS[kind] for kind in ("wordpiece", "wordpiece, other words"))
MASK = STUDENT.mask_token_id
SPECIAL = {STUDENT.cls_token_id, STUDENT.sep_token_id}
# Texts that differ, with gaps of more than a space.
TEXTS = ["  ".join(text.split(" ", 1)) for text in dict.fromkeys(tiny.sentences(120, seed=3)) if " " in text]


@functools.cache
def rows_of(student="wordpiece", teacher="wordpiece, other words"):
    teacher = teacher and TOKENIZERS[teacher]
    return list(
        tokenize_spans(
            Dataset.from_dict({"text": TEXTS}), TOKENIZERS[student], teacher_tokenizer=teacher, max_length=64
        )
    )


def collate(rows, student=PADDED, teacher=PADDED):
    return SpanCollator(DistillationCollator(student, teacher))(rows)


def masking(chances=0.3, *, student=STUDENT, teacher=TEACHER, whole_words=False, seed=0):
    chances = torch.full((200,), chances, dtype=torch.float64) if isinstance(chances, float) else chances
    return Masking(chances, Filler.of(student), teacher and Filler.of(teacher), whole_words, seed)


def flat(batch, side="student"):
    layout = batch.layout if side == "student" else batch.teacher_layout
    return layout.flatten(getattr(batch, side)["input_ids"])


def hidden_spans(batch):
    return set(batch.spans.student[batch.hidden].tolist())


def long_row(count, pieces=1):
    """A row of `count` spans between two special tokens, each of `pieces` tokens of the student's and one of the
    teacher's; two spans are a word."""
    numbers = torch.arange(count).repeat_interleave(pieces).tolist()
    return {
        "input_ids": [2, *(10 + i % 50 for i in range(count * pieces)), 3],
        "spans": [count, *numbers, count + 1],
        "teacher_input_ids": [2, *(10 + i % 40 for i in range(count)), 3],
        "teacher_spans": [count, *range(count), count + 1],
        "span_words": [*(i // 2 for i in range(count)), -1, -1],
        "span_characters": [pieces] * count + [0, 0],
        "text_id": 12345,
        "length": count * pieces + 2,
    }


def near(count, trials, chance, times=4):
    """Whether a count is no further from what is to be expected than four standard deviations."""
    return abs(count - trials * chance) <= times * math.sqrt(trials * chance * (1 - chance))


# --- How many, and what becomes of them ------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.15, 0.5])
def test_the_share_of_hidden_tokens_is_what_was_asked_for(share):
    batch = collate([long_row(20_000)])
    assert near(len(masking(share)(batch, 0).hidden), 20_000, share)
    words = masking(share, whole_words=True)(batch, 0).hidden
    assert len(words) % 2 == 0
    assert near(len(words) // 2, 10_000, share)


def test_of_the_hidden_tokens_80_percent_are_masked_10_replaced_and_10_left():
    batch = collate([long_row(20_000)])
    made = masking(0.5)(batch, 0)
    for side, before in (("student", made.hidden_tokens), ("teacher", flat(batch, "teacher")[made.hidden])):
        now, ordinary = flat(made, side)[made.hidden], len(Filler.of(STUDENT).ordinary)
        assert near((now == MASK).sum(), len(now), 0.8)
        assert near(((now != MASK) & (now != before)).sum(), len(now), 0.1 * (1 - 1 / ordinary))
        assert near((now == before).sum(), len(now), 0.1 * (1 + 1 / ordinary))


@pytest.mark.parametrize("whole_words", [False, True])
def test_all_tokens_of_a_span_or_word_share_its_fate_but_are_replaced_by_different_ones(whole_words):
    batch = collate([long_row(6000, pieces=2), long_row(6000, pieces=2) | {"text_id": 54321}])
    made = masking(1.0, whole_words=whole_words)(batch, 0)
    width = 4 if whole_words else 2
    now, before = (flat(each)[made.hidden].view(2, -1, width) for each in (made, batch))
    masked, kept = (now == MASK).sum(2), (now == before).sum(2)
    assert set(masked.flatten().tolist()) == {0, width}
    replaced = (masked == 0) & (kept < width)
    neighbours = now[replaced]
    assert len(neighbours) > 400
    assert (neighbours[:, 0] == neighbours[:, 1]).float().mean() < 0.1
    # Nor does what stands for them depend on the place alone: the two texts are alike.
    same_place = replaced[0] & replaced[1]
    assert same_place.sum() > 20
    assert (now[0][same_place] == now[1][same_place]).float().mean() < 0.1


def test_replacements_are_any_tokens_but_special_ones():
    made = masking(1.0)(collate([long_row(20_000)]), 0)
    ordinary = set(Filler.of(STUDENT).ordinary.tolist())
    assert ordinary == set(range(len(STUDENT))) - set(STUDENT.all_special_ids)
    now = flat(made)[made.hidden]
    replaced = now[(now != MASK) & (now != made.hidden_tokens)]
    assert set(replaced.tolist()) == ordinary
    most = replaced.bincount().max().item()
    assert most < 2 * len(replaced) / len(ordinary)


def test_special_tokens_and_tokens_without_a_span_are_never_hidden():
    batch = collate(rows_of())
    made = masking(1.0)(batch, 0)
    spans = batch.spans
    text = {i for i, token in enumerate(flat(batch).tolist()) if token not in SPECIAL}
    assert set(made.hidden.tolist()) == text
    for side, owners in (("student", spans.student), ("teacher", spans.teacher)):
        special = spans.words[owners] < 0
        assert special.sum() == 2 * len(TEXTS)
        assert torch.equal(flat(made, side)[special], flat(batch, side)[special])
    row = long_row(50) | {"spans": [-1] * 20 + list(range(20, 52)), "teacher_spans": [*range(30), *[-1] * 22]}
    batch = collate([row])
    made = masking(1.0)(batch, 0)
    assert made.hidden.tolist() == list(range(20, 50))
    assert torch.equal(flat(made, "teacher")[30:], flat(batch, "teacher")[30:])


def test_nothing_is_hidden_by_no_chance():
    batch = collate(rows_of())
    made = masking(0.0)(batch, 0)
    assert len(made.hidden) == len(made.hidden_tokens) == made.hidden_characters == 0
    assert torch.equal(flat(made), flat(batch))


def test_what_was_hidden_by_hand():
    row = long_row(3, pieces=2) | {"span_characters": [5, 7, 11, 0, 0]}
    chances = torch.zeros(100)
    chances[[12, 13]] = 1  # the second span's tokens
    made = masking(chances)(collate([long_row(1), row]), 0)
    assert made.hidden.tolist() == [3 + 3, 3 + 4]
    assert made.hidden_tokens.tolist() == [12, 13]
    assert made.hidden_characters == 7
    chances[10:14] = 1  # the first word's
    made = masking(chances, whole_words=True)(collate([row]), 0)
    assert made.hidden.tolist() == [1, 2, 3, 4]
    assert made.hidden_characters == 12


@pytest.mark.parametrize("whole_words", [False, True])
def test_neither_a_neighbouring_text_nor_a_token_without_a_span_makes_a_span_likelier(whole_words):
    def bare(tokens, spans, text_id):
        one_word = {"spans": spans, "teacher_spans": [0], "span_words": [0], "span_characters": [1]}
        return one_word | {"input_ids": tokens, "teacher_input_ids": [10], "text_id": text_id, "length": len(tokens)}

    chances = torch.zeros(100)
    chances[10] = 1
    rows = [bare([11, 10], [0, -1], 2), *(bare([10 + i % 2], [0], i) for i in range(4, 20))]
    hidden = masking(chances, whole_words=whole_words)(collate(rows), 0).hidden
    assert hidden.tolist() == list(range(2, 18, 2))


@pytest.mark.parametrize("whole_words", [False, True])
def test_a_span_or_word_is_as_likely_as_its_tokens_are_on_average(whole_words):
    chances = torch.zeros(100)
    chances[10:60] = torch.linspace(0, 0.5, 50)
    batch = collate([rows_of()[0], long_row(20_000, pieces=2)])
    first = rows_of()[0]["length"] + 1
    tokens = flat(batch)[first:-1].view(-1, 4 if whole_words else 2)
    hidden = torch.zeros(batch.layout.tokens)
    made = masking(chances, whole_words=whole_words)(batch, 0)
    hidden[made.hidden] = 1
    hidden = hidden[first:-1].view_as(tokens)[:, 0]
    expected = chances[tokens].mean(1)
    for low, high in ((0, 0.15), (0.15, 0.3), (0.3, 0.5)):
        chosen = (expected >= low) & (expected < high)
        assert near(hidden[chosen].sum(), chosen.sum(), expected[chosen].mean())


# --- The same draws --------------------------------------------------------------------------------------------------


def draws(rows, mask, epoch=1, **views):
    """What becomes of each text's tokens on both sides."""
    made = mask(collate(rows, **views), epoch)
    lengths = made.layout.lengths.tolist(), made.teacher_layout.lengths.tolist()
    sides = flat(made).split(lengths[0]), flat(made, "teacher").split(lengths[1])
    return {
        text: tuple(side.tolist() for side in both) for text, *both in zip(made.row_texts.tolist(), *sides, strict=True)
    }


@pytest.mark.parametrize("whole_words", [False, True])
def test_draws_depend_neither_on_the_batch_nor_on_its_order_padding_or_packing(whole_words):
    rows = rows_of()
    mask = masking(torch.rand(200, generator=torch.Generator().manual_seed(0)).double(), whole_words=whole_words)
    expected = draws(rows, mask)
    assert len(expected) == len(rows)
    assert draws(rows[::-1], mask) == expected
    for views in ({"student": PACKED}, {"teacher": PACKED}, {"student": PACKED, "teacher": PACKED}):
        assert draws(rows, mask, **views) == expected
    alone = {}
    for i in range(0, len(rows), 5):
        alone |= draws(rows[i : i + 5], mask)
    assert alone == expected
    # The same text twice, next to itself.
    assert draws([rows[0], rows[0], rows[1]], mask) == {row["text_id"]: expected[row["text_id"]] for row in rows[:2]}


@pytest.mark.parametrize("whole_words", [False, True])
@pytest.mark.parametrize(
    ("seed", "epoch", "text"),
    [(0, 4, 12345), (1, 3, 12345), (0, 3, 12346), (1, 2, 12345), (4, -1, 12345), (3, 0, 12345)],
)
def test_another_epoch_seed_or_text_is_another_draw(seed, epoch, text, whole_words):
    row, count, pieces = long_row(20_000), 20_000, 2 if whole_words else 1
    one = masking(0.3, whole_words=whole_words)(collate([row]), 3).hidden
    other = masking(0.3, whole_words=whole_words, seed=seed)(collate([row | {"text_id": text}]), epoch).hidden
    both = len(set(one.tolist()) & set(other.tolist()))
    assert near(both // pieces, count // pieces, 0.3**2)


def test_the_given_batch_stays_as_it_was():
    for view in (PADDED, PACKED):
        batch = collate(rows_of(), view, view)
        before = copy.deepcopy(batch)
        made = masking(0.5)(batch, 0)
        assert type(batch) is SpanBatch
        assert type(made) is MaskedBatch
        for side in ("student", "teacher"):
            now, masked, then = (getattr(each, side) for each in (batch, made, before))
            assert torch.equal(now["input_ids"], then["input_ids"])
            assert not torch.equal(masked["input_ids"], then["input_ids"])
            assert masked.keys() == then.keys()
        assert torch.equal(made.hidden_tokens, flat(before)[made.hidden])


def test_padding_stays_padding():
    batch = collate(rows_of())
    made = masking(1.0)(batch, 0)
    padding = batch.student["attention_mask"] == 0
    assert padding.any()
    assert (made.student["input_ids"][padding] == PADDED.pad_token_id).all()


# --- Two models ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole_words", [False, True])
@pytest.mark.parametrize(
    "kinds", [("wordpiece", "wordpiece, other words"), ("bpe", "unigram"), ("unigram", "wordpiece")]
)
def test_student_and_teacher_lose_the_same_characters(kinds, whole_words):
    student, teacher = (TOKENIZERS[kind] for kind in kinds)
    batch = collate(rows_of(*kinds), PACKED)
    made = masking(student=student, teacher=teacher, whole_words=whole_words)(batch, 0)
    spans, masked = batch.spans, []
    for side, owners, tokenizer in (("student", spans.student, student), ("teacher", spans.teacher, teacher)):
        now, before = flat(made, side), flat(batch, side)
        gone = set(owners[now == tokenizer.mask_token_id].tolist())
        # All tokens of a span that was masked, and of others none.
        assert (now[torch.isin(owners, torch.tensor(sorted(gone)))] == tokenizer.mask_token_id).all()
        assert set(owners[now != before].tolist()) <= hidden_spans(made)
        masked.append(gone)
    assert masked[0] == masked[1]
    assert 0.7 < len(masked[0]) / len(hidden_spans(made)) < 0.9
    assert torch.equal(made.hidden_characters, spans.characters[sorted(hidden_spans(made))].sum())


def test_a_teacher_without_a_filler_reads_all_of_the_text():
    batch = collate(rows_of())
    made = masking(teacher=None)(batch, 0)
    assert made.teacher is batch.teacher
    assert torch.equal(flat(made), flat(masking()(batch, 0)))


def test_a_batch_without_a_teachers_view_is_masked_alike():
    batch = SpanCollator(DistillationCollator(PADDED))(rows_of())
    made = masking()(batch, 0)
    assert made.teacher is None
    assert torch.equal(flat(made), flat(masking()(collate(rows_of()), 0)))


def test_a_teacher_that_reads_the_students_tokens_reads_them_as_they_are_hidden():
    batch = collate(rows_of(teacher=None), PACKED, PADDED)
    made = masking(teacher=STUDENT)(batch, 0)
    assert torch.equal(flat(made, "teacher"), flat(made))
    assert not torch.equal(flat(made), flat(batch))
    assert torch.equal(flat(masking(teacher=None)(batch, 0), "teacher"), flat(batch))


@pytest.mark.parametrize("teacher", ["unigram", None])
def test_whole_words_are_hidden_or_not_and_are_the_same_for_any_students_tokenizer(teacher):
    found = {}
    for kind in ("wordpiece", "wordpiece, other words", "bpe"):
        student = TOKENIZERS[kind]
        batch = collate(rows_of(kind, teacher), PACKED if kind == "bpe" else PADDED)
        made = masking(student=student, teacher=None, whole_words=True)(batch, 5)
        spans = batch.spans
        words = list(zip(spans.texts.tolist(), spans.words.tolist(), strict=True))
        gone = {words[span] for span in hidden_spans(made)}
        assert {span for span, word in enumerate(words) if word in gone} == hidden_spans(made)
        found[kind] = gone, made.hidden_characters.item()
    texts = dict(zip([row["text_id"] for row in rows_of()], TEXTS, strict=True))
    characters = sum(len(texts[text].split()[word]) for text, word in gone)
    assert list(found.values()) == [(gone, characters)] * 3
    assert near(len(gone), sum(len(text.split()) for text in TEXTS), 0.3)


def test_a_tokenizer_without_a_mask_token_is_an_error():
    maskless = tiny.tokenizer()
    maskless.mask_token = None
    with pytest.raises(ValueError, match=r"no mask token.*Add one"):
        Filler.of(maskless)


# --- Chances ---------------------------------------------------------------------------------------------------------


def test_chances_by_hand():
    # 10 ** -0.7 = 0.19953, 100 ** -0.7 = 0.03981, 10000 ** -0.7 = 0.0015849; each times its count adds up to 21.825.
    chances = masking_chances(torch.tensor([10, 100, 10_000]), 3, 0.01, 0.7)
    assert chances.tolist() == pytest.approx([0.92423, 0.18441, 0.0073413], rel=1e-4)
    # With 0.15 the first two are certain, and the third makes up for the rest of 0.15 * 10110.
    chances = masking_chances(torch.tensor([10, 100, 10_000]), 3, 0.15, 0.7)
    assert chances.tolist() == pytest.approx([1, 1, (1516.5 - 110) / 10_000])
    assert masking_chances(None, 4, 0.15, 0).tolist() == [0.15] * 4


@settings(max_examples=100)
@given(
    st.lists(st.one_of(st.integers(0, 20), st.integers(0, 10**7)), min_size=1, max_size=60).filter(any),
    st.floats(0.01, 0.99),
    st.floats(0.05, 1.5),
)
def test_chances_average_to_the_share_and_favour_rare_tokens(counts, share, smoothing):
    counts = torch.tensor(counts)
    chances = masking_chances(counts, len(counts), share, smoothing)
    assert (chances * counts).sum() / counts.sum() == pytest.approx(share)
    assert ((chances > 0) & (chances <= 1)).all()
    assert (chances[counts.argsort()].diff() <= 0).all()
    # Below 1 they are in proportion to count ** -smoothing.
    free = chances < 1
    factors = chances[free] * counts[free].clamp_min(1).double() ** smoothing
    assert torch.allclose(factors, factors[:1].expand_as(factors))


@pytest.mark.parametrize("whole_words", [False, True])
def test_of_a_corpus_the_share_is_hidden_by_chances_made_of_its_counts(whole_words):
    batch = collate(rows_of())
    tokens = flat(batch)
    counts = tokens[~torch.isin(tokens, torch.tensor(sorted(SPECIAL)))].bincount(minlength=len(STUDENT))
    mask = masking(masking_chances(counts, len(counts), 0.15, 0.7), whole_words=whole_words)
    hidden = sum(len(mask(batch, epoch).hidden) for epoch in range(40))
    assert hidden / (40 * counts.sum()) == pytest.approx(0.15, rel=0.03)


# --- Draws -----------------------------------------------------------------------------------------------------------


def test_draws_of_neighbouring_places_texts_epochs_and_seeds_do_not_resemble_one_another():
    places, size = torch.arange(20_000), 20_000

    def numbers(text=0, offset=0, seed=0, epoch=0, purpose=0):
        return fractions(mixed(torch.full((size,), text), places + offset, seed, epoch, purpose))

    plain = numbers()
    assert 0 <= plain.min() < plain.max() < 1
    counts = (plain * 10).long().bincount(minlength=10)
    assert all(near(count, size, 0.1) for count in counts.tolist())
    others = [{"offset": 1}, {"offset": 2}, {"text": 1}, {"seed": 1}, {"seed": 42}, {"epoch": 1}, {"epoch": -1}]
    for change in [*others, {"purpose": 1}, {"seed": 1, "epoch": 1}, {"text": -1}, {"text": 2**40}]:
        correlation = torch.corrcoef(torch.stack([plain, numbers(**change)]))[0, 1]
        assert abs(correlation) < 4 / math.sqrt(size), change
        # Nor do they agree more often than by chance on what is small.
        both = ((plain < 0.15) & (numbers(**change) < 0.15)).sum().item()
        assert near(both, size, 0.15**2), change


def test_a_bit_that_differs_makes_half_of_the_hashs_differ():
    numbers, signs = torch.arange(400) * 1_000_003, 1 << torch.arange(64)
    for argument in range(3):
        given = [numbers, torch.full_like(numbers, 7), torch.full_like(numbers, 3)]
        plain = mixed(*given)
        for bit in range(63):
            changed = list(given)
            changed[argument] = given[argument] ^ (1 << bit)
            flipped = ((plain ^ mixed(*changed))[:, None] & signs != 0).sum(1).double().mean().item()
            assert 28 < flipped < 36, (argument, bit)
