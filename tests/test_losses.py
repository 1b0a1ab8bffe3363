"""Losses against references in float64, written out as sums."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retort.modeling import losses
from retort.modeling.encoding import TokenLayout


def pair(n=5, student=4, teacher=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, student, generator=generator), torch.randn(n, teacher, generator=generator)


def test_mean_squared_error_averages_over_features_only():
    student, teacher = pair()
    expected = [sum((s - t) ** 2 for s, t in zip(a, b, strict=True)) / 4 for a, b in zip(student, teacher, strict=True)]
    torch.testing.assert_close(losses.mean_squared_error(student, teacher), torch.stack(expected))


def test_cosine_distance_is_half_the_squared_distance_of_unit_vectors():
    student, teacher = pair()
    units = [v / v.norm(dim=-1, keepdim=True) for v in (student.double(), teacher.double())]
    expected = (units[0] - units[1]).square().sum(-1) / 2
    torch.testing.assert_close(losses.cosine_distance(student, teacher).double(), expected)


@settings(max_examples=20)
@given(st.floats(0.5, 8.0), st.integers(2, 9), st.integers(0, 99))
def test_soft_cross_entropy_is_t_squared_times_kl(temperature, classes, seed):
    student, teacher = pair(3, classes, classes, seed)
    p = (teacher.double() / temperature).softmax(-1)
    q = (student.double() / temperature).softmax(-1)
    expected = temperature**2 * (p * (p / q).log()).sum(-1)
    torch.testing.assert_close(
        losses.soft_cross_entropy(student, teacher, temperature).double(), expected, atol=1e-5, rtol=1e-4
    )


def test_soft_cross_entropy_is_zero_for_equal_logits_and_finite_for_extreme_ones():
    logits = torch.tensor([[1e4, -1e4, 0.0]])
    assert losses.soft_cross_entropy(logits, logits + 5, 1.0).item() == 0
    assert torch.isfinite(losses.soft_cross_entropy(-logits, logits, 1.0)).all()


def test_a_class_that_the_teacher_rules_out_has_probability_zero():
    """A logit of minus infinity, of the teacher or of both, as where classes are masked."""
    goal = torch.tensor([[0.3, 1.0, -torch.inf], [2.0, -torch.inf, -torch.inf]])
    for student in (torch.tensor([[0.5, -1.0, 2.0]] * 2), torch.tensor([[0.5, -1.0, -torch.inf]] * 2)):
        student.requires_grad_()
        exact = student.detach().double().requires_grad_()
        p, q = (goal.double() / 2).softmax(-1), (exact / 2).softmax(-1)
        expected = torch.stack([4 * sum(p[i, c] * (p[i, c] / q[i, c]).log() for c in range(2 - i)) for i in range(2)])
        found = losses.soft_cross_entropy(student, goal, 2.0)
        torch.testing.assert_close(found.double(), expected)
        (gradient,) = torch.autograd.grad(found.sum(), student)
        torch.testing.assert_close(gradient.double(), 2 * (q - p).detach(), rtol=1e-5, atol=1e-6)


def test_hard_cross_entropy_takes_the_teachers_most_likely_class():
    student, teacher = pair(4, 3, 3)
    expected = [-math.log(s.double().softmax(-1)[t.argmax()]) for s, t in zip(student, teacher, strict=True)]
    torch.testing.assert_close(losses.hard_cross_entropy(student, teacher), torch.tensor(expected))


def test_similarity_matrix_error_compares_every_pair_across_widths():
    student, teacher = pair(4, 6, 3)
    cosine = torch.nn.functional.cosine_similarity
    expected = torch.zeros(4)
    for i in range(4):
        for j in range(4):
            gap = cosine(student[i], student[j], dim=0) - cosine(teacher[i], teacher[j], dim=0)
            expected[i] += gap**2 / 4
    torch.testing.assert_close(losses.similarity_matrix_error(student, teacher), expected)


def attention_maps(layout, heads, seed):
    scores = torch.randn(layout.rows, heads, layout.width, layout.width, generator=torch.Generator().manual_seed(seed))
    return scores.masked_fill(~layout.mask[:, None, None, :], -1e9).softmax(-1)


@pytest.mark.parametrize("kind", ["mse", "kl"])
def test_attention_error_reads_real_pairs_only_and_averages_heads(kind):
    layout = TokenLayout.from_lengths([2, 4], packed=False)
    student, teacher = attention_maps(layout, 3, 0), attention_maps(layout, 3, 1)
    expected = []
    for row, length in enumerate([2, 4]):
        for query in range(length):
            total = 0.0
            for head in range(3):
                for key in range(length):
                    s, t = student[row, head, query, key].item(), teacher[row, head, query, key].item()
                    total += (s - t) ** 2 / length / 3 if kind == "mse" else t * math.log(t / s) / 3
            expected.append(total)
    torch.testing.assert_close(losses.attention_error(student, teacher, layout, kind), torch.tensor(expected))


def test_attention_heads_are_averaged_where_their_numbers_differ():
    layout = TokenLayout.from_lengths([3], packed=False)
    student, teacher = attention_maps(layout, 2, 0), attention_maps(layout, 4, 1)
    expected = losses.attention_error(student.mean(1, keepdim=True), teacher.mean(1, keepdim=True), layout, "mse")
    torch.testing.assert_close(losses.attention_error(student, teacher, layout, "mse"), expected)


def test_attention_kl_stays_finite_where_a_weight_underflows():
    layout = TokenLayout.from_lengths([2], packed=False)
    sharp = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]]).requires_grad_()
    value = losses.attention_error(sharp, sharp.detach().flip(-1), layout, "kl").sum()
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(sharp.grad).all()


def test_relation_divergence_is_minilm_v2_row_by_row():
    lengths, heads = [3, 1, 4], 2
    layout = TokenLayout.from_lengths(lengths, packed=True)
    student, teacher = pair(sum(lengths), 8, 12)
    expected, start = [], 0
    for length in lengths:
        logs = []
        for flat in (student, teacher):
            vectors = flat[start : start + length].double().unflatten(-1, (heads, -1))
            scores = torch.einsum("qhd,khd->hqk", vectors, vectors) / vectors.shape[-1] ** 0.5
            logs.append(scores.log_softmax(-1))
        expected.append((logs[1].exp() * (logs[1] - logs[0])).sum(-1).mean(0))
        start += length
    result = losses.relation_divergence(student, teacher, layout, heads)
    torch.testing.assert_close(result.double(), torch.cat(expected), atol=1e-6, rtol=1e-5)


def test_task_loss_classifies_integers_and_regresses_floats():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    expected = -logits.log_softmax(-1)[[0, 1], [0, 0]]
    torch.testing.assert_close(losses.task_loss(logits, torch.tensor([0, 0])), expected)
    torch.testing.assert_close(losses.task_loss(torch.tensor([[1.5]]), torch.tensor([1.0])), torch.tensor([0.25]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_are_computed_in_float32_whatever_comes_in(dtype):
    student, teacher = (v.to(dtype) for v in pair(6, 8, 8))
    for loss in (losses.mean_squared_error, losses.cosine_distance, losses.similarity_matrix_error):
        assert loss(student, teacher).dtype == torch.float32
        torch.testing.assert_close(loss(student, teacher), loss(student.float(), teacher.float()))
