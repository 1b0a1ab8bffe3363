"""Tokens found in padded and packed tensors are those of the rows, and reductions see nothing else."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retort.modeling.encoding import TokenLayout

LENGTHS = st.lists(st.integers(1, 7), min_size=1, max_size=6)


def rows_of(lengths, hidden=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, hidden, generator=generator, dtype=torch.float64) for n in lengths]


@settings(max_examples=50)
@given(LENGTHS, st.integers(0, 3), st.integers(0, 2))
def test_pad_and_unpad_are_inverse_and_right_padded(lengths, extra, seed):
    rows = rows_of(lengths, seed=seed)
    layout = TokenLayout.from_lengths(lengths, packed=False, width=max(lengths) + extra)
    padded = layout.pad(torch.cat(rows), value=-5)
    assert padded.shape == (len(lengths), max(lengths) + extra, 3)
    for got, row in zip(padded, rows, strict=True):
        assert torch.equal(got[: len(row)], row)
        assert (got[len(row) :] == -5).all()
    assert torch.equal(layout.unpad(padded), torch.cat(rows))
    assert torch.equal(padded[layout.mask], torch.cat(rows))


@settings(max_examples=50)
@given(LENGTHS, st.booleans(), st.integers(0, 2))
def test_every_view_gives_the_same_tokens_firsts_and_means(lengths, packed, seed):
    rows = rows_of(lengths, seed=seed)
    layout = TokenLayout.from_lengths(lengths, packed=packed)
    output = torch.cat(rows)[None] if packed else torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    flat = layout.flatten(output)
    assert torch.equal(flat, torch.cat(rows))
    assert torch.equal(layout.first(flat), torch.stack([row[0] for row in rows]))
    torch.testing.assert_close(layout.mean(flat), torch.stack([row.mean(0) for row in rows]))


@given(LENGTHS)
def test_indices_say_where_each_token_lies(lengths):
    layout = TokenLayout.from_lengths(lengths, packed=True)
    places = [(row, place) for row, length in enumerate(lengths) for place in range(length)]
    assert list(zip(layout.row_ids.tolist(), layout.positions.tolist(), strict=True)) == places
    assert [places[start] for start in layout.starts] == [(row, 0) for row in range(len(lengths))]
    assert (layout.rows, layout.tokens, layout.width) == (len(lengths), sum(lengths), max(lengths))


def test_a_layout_read_off_a_mask_equals_the_one_made_from_lengths():
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]])
    layout = TokenLayout.from_attention_mask(mask)
    assert layout.lengths.tolist() == [2, 3]
    assert layout.width == 4
    assert torch.equal(layout.mask, mask.bool())


def test_means_in_half_precision_lose_no_more_than_the_rounding_of_their_result():
    layout = TokenLayout.from_lengths([500, 3], packed=True)
    flat = (1 + torch.rand(503, 4, generator=torch.Generator().manual_seed(0))).bfloat16()
    expected = torch.stack([row.double().mean(0) for row in flat.split([500, 3])])
    mean = layout.mean(flat)
    assert mean.dtype == torch.bfloat16
    assert torch.equal(mean, expected.bfloat16())


@pytest.mark.promise(4)
def test_padding_gets_no_gradient_and_changes_no_mean():
    padded = torch.randn(2, 5, 3, requires_grad=True)
    layout = TokenLayout.from_lengths([2, 4], packed=False, width=5)
    layout.mean(layout.flatten(padded)).sum().backward()
    assert (padded.grad[~layout.mask] == 0).all()
    assert (padded.grad[layout.mask] != 0).all()


def test_dtypes_survive_padding():
    layout = TokenLayout.from_lengths([1, 2], packed=False)
    assert layout.pad(torch.tensor([4, 5, 6]), -100).tolist() == [[4, -100], [5, 6]]
    assert layout.pad(torch.ones(3, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_moving_a_layout_moves_every_tensor():
    moved = TokenLayout.from_lengths([1, 2], packed=True).to("meta")
    assert all(t.device.type == "meta" for t in (moved.lengths, moved.row_ids, moved.positions, moved.starts))
    assert (moved.width, moved.packed) == (2, True)


@pytest.mark.promise(9)
def test_impossible_layouts_are_errors():
    for lengths in ([], [2, 0]):
        with pytest.raises(ValueError, match="at least one token"):
            TokenLayout.from_lengths(lengths, packed=False)
    with pytest.raises(ValueError, match="3 tokens does not fit into 2 columns"):
        TokenLayout.from_lengths([3], packed=False, width=2)
    for mask in ([[0, 1], [1, 1]], [[1, 0, 1]]):
        with pytest.raises(ValueError, match=r"not right-padded.*padding_side"):
            TokenLayout.from_attention_mask(torch.tensor(mask))
