"""Gromov's delta of spaces whose delta is known, the curvature made of it, and the script that estimates both."""

import math
from itertools import combinations

import pytest
import tiny
import torch

from retort.cli import parse
from retort.commands import curvature
from retort.evaluation.sentences import Hyperbolicity, sample_hyperbolicity
from retort.modeling.losses.hyperbolic import exponential_map, poincare_distances


def graph_distances(n, edges):
    """Shortest paths; `edges` are (node, node, length)."""
    distances = torch.full((n, n), math.inf).double().fill_diagonal_(0)
    for a, b, length in edges:
        distances[a, b] = distances[b, a] = length
    for k in range(n):
        distances = torch.minimum(distances, distances[:, k, None] + distances[k])
    return distances


def cycle(n):
    return graph_distances(n, [(i, (i + 1) % n, 1) for i in range(n)])


def four_point(distances, base):
    """Half of what the four-point condition lacks at worst, over all triples with one base point."""
    worst = 0.0
    others = [x for x in range(len(distances)) if x != base]
    for x, y, z in combinations(others, 3):
        d = distances.tolist()
        sums = sorted([d[base][x] + d[y][z], d[base][y] + d[x][z], d[base][z] + d[x][y]])
        worst = max(worst, (sums[2] - sums[1]) / 2)
    return worst


def from_base(distances, base):
    order = [base, *(x for x in range(len(distances)) if x != base)]
    return Hyperbolicity.of(distances[order][:, order])


def test_a_tree_has_delta_zero_whatever_the_base_point():
    generator = torch.Generator().manual_seed(0)
    edges = [(i, int(torch.randint(i, (), generator=generator)), 1 + i % 3) for i in range(1, 25)]
    tree = graph_distances(25, edges)
    for base in range(25):
        assert from_base(tree, base).delta == 0


@pytest.mark.parametrize(("n", "delta"), [(3, 0), (4, 1), (5, 0.5), (6, 1), (8, 2), (12, 3)])
def test_the_delta_of_a_cycle(n, delta):
    # Of four points a quarter apart, opposite ones make n/2 + n/2, neighbours twice n/4 + n/4. Half the lead is n/4.
    # The triangle has too few points, and gets one more.
    edges = [(i, (i + 1) % n, 1) for i in range(n)] + ([(0, 3, 1)] if n == 3 else [])
    found = Hyperbolicity.of(graph_distances(max(n, 4), edges))
    assert found.delta == delta
    assert found.diameter == max(n // 2, 2)


def test_delta_is_that_of_the_four_point_condition_for_every_base_point():
    points = torch.randn(9, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    distances = torch.cdist(points, points)
    deltas = [four_point(distances, base) for base in range(9)]
    for base, expected in enumerate(deltas):
        assert from_base(distances, base).delta == pytest.approx(expected, abs=1e-12)
        # What one base point finds is at least half of what any finds.
        assert max(deltas) / 2 <= expected <= max(deltas)
    assert len({round(delta, 9) for delta in deltas}) > 1


def test_the_base_point_can_halve_delta():
    # A square of side 1, and a point far off, from which it looks thinner.
    square = graph_distances(5, [(0, 1, 1), (1, 2, 1), (2, 3, 1), (3, 0, 1), (0, 4, 9), (2, 4, 9)])
    deltas = [from_base(square, base).delta for base in range(5)]
    assert max(deltas) == 1
    assert all(0.5 <= delta <= 1 for delta in deltas)


def square(radius, c):
    """Corners of a square around the origin of the disc, at a hyperbolic distance of `radius` / √c."""
    corners = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]], dtype=torch.float64)
    points = torch.tanh(torch.tensor(radius / 2).double()) / c**0.5 * corners
    return poincare_distances(points, points, c)


@pytest.mark.parametrize("c", [0.25, 1.0, 4.0])
def test_the_hyperbolic_plane_has_delta_log_two_over_the_root_of_c(c):
    # The plane of curvature -1: log 2 (Nica and Špakula 2016, Strong hyperbolicity, corollary 5.4), which a square
    # reaches as it grows: from Pythagoras, cosh(side) = cosh²(radius).
    for radius in (1.0, 5.0, 14.0):
        side = math.acosh(math.cosh(radius) ** 2)
        found = Hyperbolicity.of(square(radius, c))
        assert found.delta == pytest.approx((2 * radius - side) / c**0.5, rel=1e-6)
        assert found.diameter == pytest.approx(2 * radius / c**0.5, rel=1e-6)
    assert found.delta == pytest.approx(math.log(2) / c**0.5, rel=1e-5)


@pytest.mark.parametrize("c", [0.25, 1.0, 4.0])
def test_points_of_a_hyperbolic_disc_stay_below_log_two(c):
    angles = torch.rand(120, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 2 * math.pi
    points = exponential_map(torch.stack([angles.cos(), angles.sin()], dim=1) * 3 / c**0.5, c)
    found = Hyperbolicity.of(poincare_distances(points, points, c))
    assert 0.8 * math.log(2) < found.delta * c**0.5 < math.log(2)


def test_the_largest_delta_is_half_of_the_diameter():
    found = Hyperbolicity.of(cycle(4))
    assert found.relative == 1
    assert found.curvature == pytest.approx(0.144**2)


def test_relative_delta_and_curvature():
    found = Hyperbolicity(delta=0.9, diameter=12.5)
    assert found.relative == pytest.approx(0.144)
    assert found.curvature == pytest.approx(1)
    # Lengths have no part in it.
    assert Hyperbolicity(90, 1250).curvature == pytest.approx(1)
    assert Hyperbolicity(0.45, 12.5).curvature == pytest.approx(4)
    mean = Hyperbolicity.mean([Hyperbolicity(1, 10), Hyperbolicity(2, 30)])
    assert mean == Hyperbolicity(1.5, 20)


@pytest.mark.promise(9)
def test_a_tree_has_no_curvature():
    path = graph_distances(5, [(i, i + 1, 1) for i in range(4)])
    with pytest.raises(ValueError, match=r"Delta is 0 at a diameter of 4.* set the curvature yourself"):
        _ = Hyperbolicity.of(path).curvature
    line = torch.linspace(0, 1, 50, dtype=torch.float64)[:, None] ** 2
    (found,) = sample_hyperbolicity(line, torch.Generator().manual_seed(0), tries=1)
    with pytest.raises(ValueError, match="form a tree"):
        _ = found.curvature


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("distances", "message"),
    [
        (torch.rand(5, 4), r"matrix \[points, points\], not \[5, 4\]"),
        (torch.rand(5), r"matrix \[points, points\], not \[5\]"),
        (cycle(3), "there are 3. Sample more"),
        (cycle(5).index_fill(0, torch.tensor([2]), math.nan), "NaN or infinity.*load it in float32"),
        (cycle(5).index_fill(0, torch.tensor([2]), math.inf), "NaN or infinity"),
        (torch.zeros(5, 5), "All 5 points are equal.*another layer"),
    ],
)
def test_what_has_no_delta_is_refused(distances, message):
    with pytest.raises(ValueError, match=message):
        Hyperbolicity.of(distances)


@pytest.mark.promise(9)
def test_equal_vectors_are_refused_exactly():
    with pytest.raises(ValueError, match="All 6 points are equal"):
        sample_hyperbolicity(torch.randn(1, 64).expand(6, 64), torch.Generator())


def test_samples_depend_on_the_generator_and_are_drawn_from_all_vectors():
    vectors = torch.randn(60, 4, generator=torch.Generator().manual_seed(3))

    def sample(seed, samples=20):
        return sample_hyperbolicity(vectors, torch.Generator().manual_seed(seed), samples=samples, tries=4)

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)
    assert len(set(sample(1))) == 4
    # Of all vectors, only the base point differs.
    everything = sample(1, samples=1000)
    largest = torch.cdist(vectors.double(), vectors.double()).max().item()
    assert {round(found.diameter, 6) for found in everything} == {round(largest, 6)}


def test_turning_shifting_and_stretching_vectors_leaves_the_curvature_alone():
    vectors = torch.randn(30, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    turned = 7 * vectors[:, [2, 0, 3, 1]] - 5
    found, other = (
        sample_hyperbolicity(each, torch.Generator().manual_seed(0), samples=15, tries=1)[0]
        for each in (vectors, turned)
    )
    assert other.delta == pytest.approx(7 * found.delta)
    assert other.curvature == pytest.approx(found.curvature)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curvature")
    tiny.model("bert", layers=3).save_pretrained(folder / "model")
    tiny.tokenizer().save_pretrained(folder / "model")
    (folder / "corpus.txt").write_text("\n".join(dict.fromkeys(tiny.sentences(60, seed=3))))
    return folder


@pytest.fixture
def estimate(folder, capsys):
    """Run the script in this process; gives the lines that it printed."""

    def run(*flags):
        files = ["--model", str(folder / "model"), "--text", str(folder / "corpus.txt")]
        options = parse(["curvature", *files, *map(str, flags)])
        curvature.run(options)
        return capsys.readouterr().out.splitlines()

    return run


def numbers(lines):
    """Name -> mean and standard deviation."""
    return {line[:14].strip(): tuple(map(float, line[14:].split("±"))) for line in lines[:4]}


def hidden_states(folder, layer):
    """All tokens of the corpus, one text at a time, by transformers alone."""
    model, tokenizer = tiny.model("bert", layers=3), tiny.tokenizer()
    states = []
    for text in (folder / "corpus.txt").read_text().split("\n"):
        with torch.no_grad():
            output = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
        states.append(output.hidden_states[layer][0])
    return torch.cat(states)


@pytest.mark.parametrize("layer", [-1, 0, 2])
def test_the_script_measures_the_tokens_of_the_layer_that_is_named(estimate, folder, layer):
    states = hidden_states(folder, layer).double()
    # More than there are: all are taken, and the diameter is that of all.
    printed = estimate("--layer", layer, "--samples", 1000, "--tries", 2)
    found = numbers(printed)
    diameter, spread = found["diameter"]
    assert diameter == pytest.approx(torch.cdist(states, states).max().item(), rel=1e-3)
    assert spread == pytest.approx(0, abs=1e-5)
    delta, relative = found["delta"][0], found["relative delta"][0]
    assert relative == pytest.approx(2 * delta / diameter, rel=2e-3)
    assert found["c"][0] == pytest.approx((0.144 / relative) ** 2, rel=2e-3)
    assert printed[-1].startswith(f"2 samples of {len(states)} among {len(states)} tokens, layer {layer % 4} of")


def test_the_script_repeats_itself_by_its_seed(estimate):
    flags = "--samples", 20, "--tries", 3
    assert estimate(*flags) == estimate(*flags)
    assert numbers(estimate(*flags)) != numbers(estimate(*flags, "--seed", 1))
    assert all(spread > 0 for _, spread in numbers(estimate(*flags)).values())


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--layer", 4), "--layer 4: the model has layers 0 to 3, or -4 to -1"),
        (("--layer", -5), "--layer -5"),
        (("--samples", 3), "--samples is 3, but must be at least 4"),
        (("--tries", 0), "--tries is 0, but must be at least 1"),
    ],
)
def test_the_script_says_what_is_wrong_with_its_flags(estimate, capsys, flags, message):
    with pytest.raises(SystemExit) as error:
        estimate(*flags)
    assert message in f"{error.value}{capsys.readouterr().err}"


@pytest.mark.promise(9)
def test_the_script_says_that_a_layer_has_no_delta(estimate, monkeypatch):
    monkeypatch.setattr(curvature, "token_vectors", lambda *_: torch.ones(9, 4))
    with pytest.raises(SystemExit, match=r"Layer 3 of .*model, 9 tokens: All 9 points are equal"):
        estimate()
