"""From logits of a student's pieces to logits of the teacher's tokens."""

import math

import pytest
import tiny
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers.normalizers import Lowercase

from retort.modeling.vocabularies import Spelling, VocabularyMap, spell, vocabulary_size
from retort.modeling.vocabularies.vocabulary_map import IndexBags

PIECES = 7
# By the teacher's token; 0 and 3 are spelled alike, 4 has a piece twice, 1 and 8 can't be spelled.
SPELT = [[3], [], [1, 4], [3], [2, 2, 6], [0], [5], [6, 1], []]


def spelling_of(tokens):
    flat = torch.tensor([piece for pieces in tokens for piece in pieces], dtype=torch.long)
    return Spelling(flat, torch.tensor([len(pieces) for pieces in tokens]))


def logits(columns=3, dtype=torch.float64):
    return torch.randn(PIECES, columns, dtype=dtype, generator=torch.Generator().manual_seed(0))


tokens_in_pieces = st.lists(st.lists(st.integers(0, PIECES - 1), max_size=4), min_size=1, max_size=9)


@settings(max_examples=30)
@given(tokens_in_pieces)
def test_sets_are_summed_and_empty_ones_give_zeros(sets):
    rows = logits()
    owners = torch.tensor([owner for owner, members in enumerate(sets) for _ in members], dtype=torch.long)
    members = torch.tensor([member for members in sets for member in members], dtype=torch.long)
    shuffled = torch.randperm(len(members), generator=torch.Generator().manual_seed(0))
    sums = IndexBags.of(members[shuffled], owners[shuffled], len(sets)).sums(rows)
    expected = [sum((rows[member] for member in members), start=torch.zeros_like(rows[0])) for members in sets]
    torch.testing.assert_close(sums, torch.stack(expected))


@settings(max_examples=30)
@given(tokens_in_pieces)
def test_the_tokens_of_pieces_are_the_inverse_of_the_pieces_of_tokens(tokens):
    assume(any(tokens))
    vocabulary = VocabularyMap.of(spelling_of(tokens), PIECES)
    forth = vocabulary.spelt_by.sums(torch.eye(PIECES))
    back = vocabulary.part_of.sums(torch.eye(len(vocabulary)))
    spelled = [pieces for pieces in tokens if pieces]
    assert forth.tolist() == [[pieces.count(piece) for piece in range(PIECES)] for pieces in spelled]
    assert torch.equal(back, forth.T)


def test_tokens_that_can_not_be_spelled_are_absent():
    vocabulary = VocabularyMap.of(spelling_of(SPELT), PIECES)
    assert vocabulary.tokens.tolist() == [0, 2, 3, 4, 5, 6, 7]
    assert len(vocabulary) == 7


@pytest.mark.parametrize("joint", ["sum", "logsumexp"])
def test_a_tokens_logit_is_that_of_its_pieces_together(joint):
    rows = logits()
    vocabulary = VocabularyMap.of(spelling_of(SPELT), PIECES, joint)
    expected = torch.stack([getattr(rows[pieces], joint)(0) for pieces in SPELT if pieces])
    torch.testing.assert_close(vocabulary.of_tokens(rows), expected)


@pytest.mark.parametrize("joint", ["sum", "logsumexp"])
def test_the_gradient_of_a_tokens_logit_is_its_derivative(joint):
    vocabulary = VocabularyMap.of(spelling_of(SPELT), PIECES, joint)
    assert torch.autograd.gradcheck(vocabulary.of_tokens, logits().requires_grad_())


def test_a_token_of_hopelessly_unlikely_pieces_stays_finite():
    rows = torch.zeros(PIECES, 1)
    rows[[0, 1, 4]] = torch.tensor([[1e4], [-1e4], [-3e38]])
    rows.requires_grad_()
    vocabulary = VocabularyMap.of(spelling_of(SPELT), PIECES, "logsumexp")
    made = vocabulary.of_tokens(rows)
    made.log_softmax(0)[vocabulary.tokens == 2].sum().backward()
    assert made[vocabulary.tokens == 5].item() == 1e4
    assert made[vocabulary.tokens == 2].item() == pytest.approx(1e4 + math.log(torch.finfo(torch.float32).tiny))
    assert torch.isfinite(rows.grad).all()
    assert rows.grad[0].item() == pytest.approx(-1)  # the likeliest one is still held down


def test_shared_tokens_are_one_piece_each_and_no_piece_is_two_tokens():
    vocabulary = VocabularyMap.shared(spelling_of(SPELT), PIECES)
    assert vocabulary.tokens.tolist() == [0, 5, 6]  # 3 comes to the same piece as 0
    rows = logits()
    assert torch.equal(vocabulary.of_tokens(rows), rows[[3, 0, 5]])


@settings(max_examples=30)
@given(tokens_in_pieces)
def test_of_tokens_that_come_to_the_same_piece_the_first_is_shared(tokens):
    first = {}
    for token, pieces in enumerate(tokens):
        if len(pieces) == 1:
            first.setdefault(pieces[0], token)
    assume(first)
    vocabulary = VocabularyMap.shared(spelling_of(tokens), PIECES)
    assert vocabulary.tokens.tolist() == sorted(first.values())
    assert {int(v): p for v, p in zip(vocabulary.tokens, vocabulary.spelt_by.members.tolist(), strict=True)} == {
        token: piece for piece, token in first.items()
    }


def test_capitals_are_left_to_the_first_of_a_teachers_tokens():
    ours, theirs = tiny.tokenizer(), tiny.tokenizer()
    theirs.add_tokens(["The"])
    ours.backend_tokenizer.normalizer = Lowercase()
    the, capital = theirs.convert_tokens_to_ids(["the", "The"])
    spelling = spell(theirs, ours)
    assert spelling[the] == spelling[capital]
    tokens = VocabularyMap.shared(spelling, vocabulary_size(ours)).tokens.tolist()
    assert min(the, capital) in tokens
    assert max(the, capital) not in tokens


@pytest.mark.promise(9)
def test_vocabularies_that_have_nothing_in_common_are_refused():
    with pytest.raises(ValueError, match=r"no token in common.*vocabulary_loss='reduce_map'"):
        VocabularyMap.shared(spelling_of([[0, 1], [], [2, 3, 4]]), PIECES)
    with pytest.raises(ValueError, match=r"can't spell any of the teacher's tokens.*Are these the right tokenizers\?"):
        VocabularyMap.of(spelling_of([[], [], []]), PIECES)


def test_all_tables_move_to_a_device_and_the_kind_stays():
    vocabulary = VocabularyMap.of(spelling_of(SPELT), PIECES, "logsumexp").to("meta")
    tables = [
        vocabulary.tokens,
        *(t for bags in (vocabulary.spelt_by, vocabulary.part_of) for t in vars(bags).values()),
    ]
    assert [table.device.type for table in tables] == ["meta"] * 5
    assert vocabulary.joint == "logsumexp"
