"""The contrastive loss on tokens against plain loops in float64, and the masks that choose its negatives."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch

from retort.modeling import losses
from retort.modeling.encoding import TokenLayout
from retort.modeling.losses import draw_negatives, ignored_candidates, token_contrast

SIMILARITIES = [None, 0.3]


def tokens(n, seed, features=6):
    return torch.randn(n, features, generator=torch.Generator().manual_seed(seed))


def uniform(n, m, seed=0):
    return torch.rand(n, m, generator=torch.Generator().manual_seed(seed))


def similarity(a, b, c):
    """Of one pair of vectors, as numbers of Python."""
    if c is None:
        return float(a @ b / (a.norm() * b.norm()))
    a, b = (torch.tanh(c**0.5 * v.norm()) * v / (c**0.5 * v.norm()) for v in (a, b))
    gap = float((a - b) @ (a - b))
    return -math.acosh(1 + 2 * c * gap / float((1 - c * a @ a) * (1 - c * b @ b))) / c**0.5


def loop(anchors, positives, negatives, ignored, temperature, c):
    """The loss as it is written."""
    anchors, positives, negatives = anchors.double(), positives.double(), negatives.double()
    each = []
    for anchor, positive, left_out in zip(anchors, positives, ignored.tolist(), strict=True):
        own = math.exp(similarity(anchor, positive, c) / temperature)
        others = sum(
            math.exp(similarity(anchor, negative, c) / temperature)
            for negative, out in zip(negatives, left_out, strict=True)
            if not out
        )
        each.append(-math.log(own / (own + others)))
    return torch.tensor(each)


@pytest.mark.parametrize("c", SIMILARITIES)
@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_the_loss_is_the_written_one(c, temperature):
    anchors, positives, negatives = tokens(5, 0), tokens(5, 1), tokens(7, 2)
    ignored = uniform(5, 7) < 0.3
    found = token_contrast(anchors, positives, negatives, ignored, temperature, c)
    torch.testing.assert_close(
        found, loop(anchors, positives, negatives, ignored, temperature, c), rtol=1e-4, atol=1e-5
    )


def test_by_cosine_it_is_info_nce():
    anchors, positives, negatives = tokens(5, 0), tokens(5, 1), tokens(7, 2)
    ignored = uniform(5, 7) < 0.3
    unit = partial(torch.nn.functional.normalize, dim=-1)
    expected = losses.info_nce(unit(anchors) / 0.2, unit(positives), [(unit(negatives), ignored)])
    torch.testing.assert_close(token_contrast(anchors, positives, negatives, ignored, 0.2), expected)


@pytest.mark.parametrize("c", SIMILARITIES)
def test_a_step_down_the_gradient_brings_the_positive_closer_and_the_loss_falls_as_it_comes(c):
    anchors, negatives = tokens(6, 0), tokens(9, 2)
    ignored = torch.zeros(6, 9, dtype=torch.bool)
    far = tokens(6, 1)
    paths = [token_contrast(anchors, torch.lerp(far, anchors, s), negatives, ignored, 0.5, c) for s in (0, 0.5, 0.9, 1)]
    assert all((later < earlier).all() for earlier, later in pairwise(paths))

    positives = far.clone().requires_grad_()
    token_contrast(anchors, positives, negatives, ignored, 0.5, c).sum().backward()
    moved = far - 1e-2 * positives.grad
    for anchor, before, after in zip(anchors.double(), far.double(), moved.double(), strict=True):
        assert similarity(anchor, after, c) > similarity(anchor, before, c)


@pytest.mark.parametrize("c", SIMILARITIES)
def test_negatives_are_pushed_away(c):
    anchors, positives = tokens(1, 0), tokens(1, 1)
    negative = tokens(1, 2).requires_grad_()
    token_contrast(anchors, positives, negative, torch.tensor([[False]]), 0.5, c).sum().backward()
    moved = (negative - 1e-2 * negative.grad).detach()
    assert similarity(anchors[0].double(), moved[0].double(), c) < similarity(
        anchors[0].double(), negative[0].detach().double(), c
    )


@pytest.mark.parametrize("c", SIMILARITIES)
def test_the_temperature_counts_and_so_does_the_curvature(c):
    batch = tokens(4, 0), tokens(4, 1), tokens(6, 2), torch.zeros(4, 6, dtype=torch.bool)
    tau = torch.tensor(0.7, requires_grad=True)
    # All negatives alike in the limit: log(1 + their number).
    torch.testing.assert_close(token_contrast(*batch, 1e6, c), torch.full((4,), math.log(7)), rtol=1e-4, atol=0)
    token_contrast(*batch, tau, c).sum().backward()
    step = 1e-2
    slope = (token_contrast(*batch, 0.7 + step, c) - token_contrast(*batch, 0.7 - step, c)).sum() / (2 * step)
    torch.testing.assert_close(tau.grad, slope, rtol=1e-2, atol=1e-3)
    assert tau.grad != 0
    curvature = torch.tensor([0.3], requires_grad=True)
    token_contrast(*batch, 0.7, curvature).sum().backward()
    assert curvature.grad.item() != 0


@pytest.mark.parametrize("c", SIMILARITIES)
def test_an_anchor_without_negatives_has_loss_zero_and_finite_gradients(c):
    anchors, positives = tokens(3, 0).requires_grad_(), tokens(3, 1).requires_grad_()
    negatives = tokens(4, 2).requires_grad_()
    ignored = torch.tensor([[True] * 4, [False] * 4, [True] * 4])
    # Fails where a gradient is not a number on its way, too, and a mask wipes it off behind.
    with torch.autograd.detect_anomaly(check_nan=True):
        found = token_contrast(anchors, positives, negatives, ignored, 0.1, c)
        found.sum().backward()
    assert (found == 0).tolist() == [True, False, True]
    for each in (anchors, positives, negatives):
        assert torch.isfinite(each.grad).all()
    assert anchors.grad.any(-1).tolist() == [False, True, False]
    nothing = token_contrast(anchors, positives, negatives[:0], ignored[:, :0], 0.1, c)
    assert nothing.tolist() == [0, 0, 0]


@pytest.mark.parametrize("c", SIMILARITIES)
def test_gradients_are_right_in_float64(c):
    batch = [tokens(n, seed).double().requires_grad_() for n, seed in ((3, 0), (3, 1), (4, 2))]
    ignored = torch.eye(3, 4, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda *vectors: token_contrast(*vectors, ignored, 0.5, c), batch)


@pytest.mark.parametrize("c", SIMILARITIES)
def test_half_precision_is_raised_to_float32(c):
    half = [tokens(n, seed).bfloat16() for n, seed in ((3, 0), (3, 1), (4, 2))]
    ignored = torch.eye(3, 4, dtype=torch.bool)
    found = token_contrast(*half, ignored, 0.5, c)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, token_contrast(*(each.float() for each in half), ignored, 0.5, c))


LAYOUT = TokenLayout.from_lengths([3, 2, 4], packed=False)
# Two tokens of the first row are aligned with one token of the other model; token 8 is aligned with none.
PLACES = torch.tensor([0, 1, 1, 3, 5, 7])


@pytest.mark.parametrize("same_row", [False, True])
@pytest.mark.parametrize("mismatched", [False, True])
def test_a_candidate_is_ignored_if_it_is_the_anchors_own_or_of_another_row(same_row, mismatched):
    candidates = torch.arange(9) if mismatched else PLACES
    rows = [0, 0, 0, 1, 1, 2, 2, 2, 2]
    expected = [
        [place == other or (same_row and rows[place] != rows[other]) for other in candidates.tolist()]
        for place in PLACES.tolist()
    ]
    assert ignored_candidates(PLACES, candidates, LAYOUT.row_ids, same_row=same_row).tolist() == expected


def test_drawing_as_many_as_there_are_is_not_drawing():
    ignored = uniform(6, 8, seed=1) < 0.4
    most = int((~ignored).sum(1).max())
    for count in (most, 8, 100):
        assert torch.equal(draw_negatives(ignored, count, uniform(6, 8)), ignored)
    assert not torch.equal(draw_negatives(ignored, most - 1, uniform(6, 8)), ignored)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_each_anchor_keeps_count_negatives_none_of_them_ignored(count):
    ignored = uniform(50, 9, seed=1) < 0.5
    left = draw_negatives(ignored, count, uniform(50, 9))
    assert not (ignored & ~left).any()
    assert torch.equal((~left).sum(1), (~ignored).sum(1).clamp_max(count))


def test_every_set_of_negatives_is_drawn_equally_often():
    ignored = torch.tensor([False, True, False, False, False]).expand(30_000, 5)
    left = draw_negatives(ignored, 2, uniform(30_000, 5))
    chosen, counts = torch.unique(~left, dim=0, return_counts=True)
    assert len(chosen) == 6
    # Binomial with p = 1/6: 5000 on average, its standard deviation 65.
    assert ((counts - 5000).abs() < 5 * 65).all()


def test_the_draw_depends_on_the_given_numbers_alone():
    ignored = torch.zeros(10, 20, dtype=torch.bool)
    state = torch.get_rng_state()
    first = draw_negatives(ignored, 3, uniform(10, 20, seed=5))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(123)
    assert torch.equal(draw_negatives(ignored, 3, uniform(10, 20, seed=5)), first)
    assert not torch.equal(draw_negatives(ignored, 3, uniform(10, 20, seed=6)), first)


@pytest.mark.parametrize("c", SIMILARITIES)
def test_a_drawn_loss_is_the_loss_over_the_drawn_alone(c):
    student, teacher = tokens(9, 0), tokens(9, 1)
    ignored = ignored_candidates(torch.arange(9), torch.arange(9), LAYOUT.row_ids, same_row=False)
    left = draw_negatives(ignored, 4, uniform(9, 9))
    found = token_contrast(teacher, student, student, left, 0.5, c)
    for j in range(9):
        alone = student[~left[j]]
        few = token_contrast(teacher[j : j + 1], student[j : j + 1], alone, torch.zeros(1, 4, dtype=torch.bool), 0.5, c)
        torch.testing.assert_close(found[j : j + 1], few)


def test_negatives_of_both_models_are_joined():
    student, teacher = tokens(9, 0), tokens(9, 1)
    ignored = ignored_candidates(torch.arange(9), torch.arange(9), LAYOUT.row_ids, same_row=True)
    joined = torch.cat([student, teacher]), torch.cat([ignored, ignored], dim=1)
    found = token_contrast(teacher, student, *joined, 0.5)
    expected = loop(teacher, student, *joined, 0.5, None)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (found > token_contrast(teacher, student, student, ignored, 0.5)).all()
