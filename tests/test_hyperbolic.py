"""The Poincaré ball against closed forms and against the formula by Möbius addition in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retort.modeling.losses.hyperbolic import MARGIN, exponential_map, poincare_distance, poincare_distances

CURVATURES = [0.05, 1.0, 3.0]


def vectors(n, features=5, length=1.0, seed=0, dtype=torch.float32):
    """Of about the given length."""
    generator = torch.Generator().manual_seed(seed)
    return length * torch.randn(n, features, generator=generator, dtype=dtype) / features**0.5


def points(n, curvature, seed=0, dtype=torch.float32):
    """All over the ball, up to its border."""
    lengths = torch.linspace(0.05, 5, n, dtype=dtype)[:, None] / curvature**0.5
    return exponential_map(vectors(n, seed=seed, dtype=dtype) * lengths, curvature)


def mobius_distance(x, y, c):
    """2/√c artanh(√c |(-x) ⊕ y|), one pair (Ganea et al. 2018, eq. 4 and 5)."""
    xy, xx, yy = -(x @ y), x @ x, y @ y
    added = ((1 + 2 * c * xy + c * yy) * -x + (1 - c * xx) * y) / (1 + 2 * c * xy + c**2 * xx * yy)
    return 2 / c**0.5 * torch.atanh(c**0.5 * (added @ added).sqrt())


@pytest.mark.parametrize("c", CURVATURES)
def test_the_exponential_map_is_the_closed_form(c):
    x = vectors(6, length=1 / c**0.5).double()
    norm = x.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(exponential_map(x, c), torch.tanh(c**0.5 * norm) * x / (c**0.5 * norm))


@pytest.mark.parametrize("c", CURVATURES)
def test_a_mapped_vector_lies_twice_its_length_from_the_origin(c):
    x = vectors(6, length=1 / c**0.5)
    mapped = exponential_map(x, c)
    found = poincare_distance(torch.zeros_like(x), mapped, c)
    torch.testing.assert_close(found, 2 * x.norm(dim=-1), rtol=1e-4, atol=1e-5)
    artanh = 2 / c**0.5 * torch.atanh(c**0.5 * mapped.norm(dim=-1))
    torch.testing.assert_close(found, artanh, rtol=1e-4, atol=1e-5)


def test_zero_maps_to_the_origin_and_has_the_identity_as_its_gradient():
    zero = torch.zeros(1, 3, requires_grad=True)
    curvature = torch.tensor([0.7], requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(lambda x: exponential_map(x, 0.7)[0], zero)[:, 0]
    torch.testing.assert_close(jacobian, torch.eye(3))
    mapped = exponential_map(zero, curvature)
    mapped.sum().backward()
    assert not mapped.any()
    assert curvature.grad.item() == 0


@pytest.mark.parametrize("c", CURVATURES)
def test_long_vectors_stop_before_the_border_and_keep_a_gradient_along_it(c):
    x = (vectors(4, length=1e3)).requires_grad_()
    mapped = exponential_map(x, c)
    torch.testing.assert_close(mapped.norm(dim=-1), torch.full((4,), (1 - MARGIN) / c**0.5))
    distance = poincare_distance(mapped, mapped.roll(1, 0), c)
    distance.sum().backward()
    assert torch.isfinite(distance).all()
    assert torch.isfinite(x.grad).all()
    assert (x.grad.norm(dim=-1) > 0).all()
    radial = (x.grad * x).sum(-1) / x.grad.norm(dim=-1) / x.norm(dim=-1)
    assert radial.abs().max() < 1e-3


@pytest.mark.parametrize("c", CURVATURES)
def test_distances_are_those_by_mobius_addition_and_so_are_their_gradients(c):
    x, y = (points(n, c, seed).requires_grad_() for n, seed in ((5, 1), (4, 2)))
    exact_x, exact_y = (each.detach().double().requires_grad_() for each in (x, y))
    expected = torch.stack([torch.stack([mobius_distance(a, b, c) for b in exact_y]) for a in exact_x])
    found = poincare_distances(x, y, c)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(poincare_distance(x[:4], y, c), found[:4].diagonal(), rtol=1e-4, atol=1e-5)
    weights = vectors(5, 4, seed=3)
    (found * weights).sum().backward()
    (expected * weights.double()).sum().backward()
    for ours, exact in ((x, exact_x), (y, exact_y)):
        torch.testing.assert_close(ours.grad.double(), exact.grad, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("distance", [poincare_distance, poincare_distances])
def test_gradients_are_right_for_points_and_for_a_learnt_curvature(distance):
    def mapped(x, y, c):
        return distance(exponential_map(x, c), exponential_map(y, c), c)

    x, y = (vectors(3, 4, seed=seed, dtype=torch.float64).requires_grad_() for seed in (1, 2))
    curvature = torch.tensor([0.8], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(mapped, (x, y, curvature))


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.floats(0.01, 5), st.floats(0.01, 4))
def test_the_triangle_inequality_holds_and_distances_are_symmetric(seed, c, spread):
    x = exponential_map(vectors(6, length=spread, seed=seed), c)
    distances = poincare_distances(x, x, c)
    torch.testing.assert_close(distances, distances.T, rtol=1e-4, atol=1e-4)
    detours = distances[:, :, None] + distances[None]
    assert (distances[:, None] <= detours * (1 + 1e-4) + 1e-4).all()
    # Hyperbolic: a detour is longer than in flat space.
    flat = torch.cdist(x.double(), x.double())
    assert (distances.double() >= 2 * flat * (1 - 1e-4) - 1e-4).all()


def test_rotations_and_swapped_sides_change_no_distance():
    x, y = points(5, 0.5, seed=1), points(4, 0.5, seed=2)
    rotation = torch.linalg.qr(vectors(5, 5, seed=3)).Q
    expected = poincare_distances(x, y, 0.5)
    torch.testing.assert_close(poincare_distances(x @ rotation, y @ rotation, 0.5), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(poincare_distances(y, x, 0.5).T, expected)


def test_space_grows_flat_as_the_curvature_vanishes():
    x, y = vectors(5, seed=1), vectors(4, seed=2)
    found = poincare_distances(exponential_map(x, 1e-8), exponential_map(y, 1e-8), 1e-8)
    torch.testing.assert_close(found, 2 * torch.cdist(x, y))


def test_lengths_scale_as_one_over_the_root_of_the_curvature():
    x, y = points(5, 1.0, seed=1), points(4, 1.0, seed=2)
    torch.testing.assert_close(poincare_distances(x / 2, y / 2, 4.0), poincare_distances(x, y, 1.0) / 2)


@pytest.mark.parametrize("length", [0.0, 1.0, 3.0, 50.0])
def test_equal_points_are_at_zero_distance_with_finite_gradients_even_near_the_border(length):
    x = (length * vectors(40, 64)).requires_grad_()
    mapped = exponential_map(x, 1.0)
    rowwise, pairwise = poincare_distance(mapped, mapped, 1.0), poincare_distances(mapped, mapped, 1.0)
    assert not rowwise.any()
    assert pairwise.diagonal().max() < 1e-4
    (rowwise.sum() + pairwise.diagonal().sum()).backward()
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().max() < 1e-2


def test_near_points_close_to_the_border_are_told_apart():
    x = exponential_map(50 * vectors(30, 64), 1.0)
    y = exponential_map(50 * vectors(30, 64) + 0.05 * vectors(30, 64, seed=1), 1.0)
    expected = torch.stack([mobius_distance(a, b, 1.0) for a, b in zip(x.double(), y.double(), strict=True)])
    torch.testing.assert_close(poincare_distances(x, y, 1.0).diagonal().double(), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(poincare_distance(x, y, 1.0).double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_raised_to_float32(dtype):
    x, y = vectors(4, seed=1).to(dtype), vectors(3, seed=2).to(dtype)
    mapped = exponential_map(x, 0.5)
    torch.testing.assert_close(mapped, exponential_map(x.float(), 0.5))
    found = poincare_distances(x / 4, y / 4, 0.5)
    torch.testing.assert_close(found, poincare_distances((x / 4).float(), (y / 4).float(), 0.5))
    assert mapped.dtype == found.dtype == poincare_distance(x / 4, x / 4, 0.5).dtype == torch.float32


def test_a_known_triple_by_hand():
    # On a diameter distances are differences of 2 artanh; artanh(0.6) = log(2) and artanh(0.8) = log(3).
    x = torch.tensor([[0.6, 0.0], [0.0, 0.0]])
    y = torch.tensor([[0.8, 0.0], [-0.6, 0.0], [0.0, 0.8]])
    # The last: arcosh(1 + 2 * (0.36 + 0.64) / (0.64 * 0.36)).
    expected = [2 * math.log(3 / 2), 4 * math.log(2), math.acosh(1 + 2 / (0.64 * 0.36))]
    torch.testing.assert_close(
        poincare_distances(x, y, 1.0),
        torch.tensor([expected, [2 * math.log(3), 2 * math.log(2), 2 * math.log(3)]]),
    )
