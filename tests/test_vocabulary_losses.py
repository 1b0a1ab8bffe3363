"""Losses over whole vocabularies against the published formulas in float64, and what they keep in memory."""

from functools import partial

import pytest
import tiny
import torch
import torch.nn.functional as F
from test_vocabulary_map import PIECES, SPELT, spelling_of
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from retort.modeling.encoding import (
    OutputLayer,
    OutputRequest,
    Packing,
    TokenAlignment,
    TokenLayout,
    enable_packing,
    encode,
    position_offset,
)
from retort.modeling.losses import (
    hard_cross_entropy,
    mean_squared_error,
    soft_cross_entropy,
    vocabulary_cross_entropy,
    vocabulary_divergence,
    vocabulary_loss,
)
from retort.modeling.losses import vocabulary as vocabulary_losses
from retort.modeling.vocabularies import VocabularyMap

TEMPERATURE = 2.0
MAPS = {
    "shared": VocabularyMap.shared(spelling_of(SPELT), PIECES),
    "sum": VocabularyMap.of(spelling_of(SPELT), PIECES, "sum"),
    "logsumexp": VocabularyMap.of(spelling_of(SPELT), PIECES, "logsumexp"),
}
ONE_EACH = TokenAlignment(torch.tensor([0, 2, 5, 7]), torch.tensor([0, 1, 3, 5]))
SEVERAL = TokenAlignment(torch.tensor([0, 2, 3, 4, 5, 6, 7]), torch.tensor([0, 2, 3, 5]), torch.tensor([1, 3, 1, 2]))
GROUPS = {id(ONE_EACH): [[0], [2], [5], [7]], id(SEVERAL): [[0], [2, 3, 4], [5], [6, 7]]}
FAMILIES = tuple(family for family in tiny.FAMILIES if family != "xlm-roberta")  # which is RoBERTa
PACKABLE = tuple(family for family in FAMILIES if family not in ("mpnet", "deberta-v2"))


def sides(bias=True, dtype=torch.float32):
    """Features of 8 of the student's tokens and its output layer, all leaves; then the teacher's, of 6."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(8, 4), (PIECES, 4), (PIECES,), (6, 5), (len(SPELT), 5), (len(SPELT),)]
    tensors = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    ours, theirs = [t.requires_grad_() for t in tensors[:3]], tensors[3:]
    return (ours, theirs) if bias else (ours[:2], theirs[:2])


def published(name, alignment, joint, ours, theirs):
    """The divergence as the paper writes it, place by place: tokens joined, then pieces, softmax, sum."""
    logits, goals = F.linear(*ours), F.linear(*theirs)
    spelt = {0: [3], 5: [0], 6: [5]} if name == "shared" else {t: pieces for t, pieces in enumerate(SPELT) if pieces}
    values = []
    for tokens, goal in zip(GROUPS[id(alignment)], goals[alignment.teacher], strict=True):
        place = getattr(logits[tokens], joint)(0)
        mapped = [place[p].logsumexp(0) if name == "logsumexp" else place[p].sum() for p in spelt.values()]
        log_s = (torch.stack(mapped) / TEMPERATURE).log_softmax(0)
        log_t = (goal[list(spelt)] / TEMPERATURE).log_softmax(0)
        values.append(TEMPERATURE**2 * sum(t.exp() * (t - s) for s, t in zip(log_s, log_t, strict=True)))
    return torch.stack(values)


def divergence(name, alignment, joint, ours, theirs):
    rows = alignment.sums if joint == "sum" else alignment.of_student
    layers = OutputLayer(*ours[1:]), OutputLayer(*theirs[1:])
    times = alignment.counts if joint == "sum" else None
    return vocabulary_divergence(rows(ours[0]), alignment.of_teacher(theirs[0]), layers, MAPS[name], TEMPERATURE, times)


def assert_alike(found, expected, leaves, exact_leaves, rtol=1e-4):
    """Values, and gradients of rows that weigh the same and of rows that don't."""
    torch.testing.assert_close(found.double(), expected, rtol=rtol, atol=1e-6)
    for weights in (torch.tensor(0.3).expand(len(expected)), torch.arange(1.0, len(expected) + 1)):
        ours = torch.autograd.grad(found, leaves, weights, retain_graph=True)
        exact = torch.autograd.grad(expected, exact_leaves, weights.to(expected.dtype), retain_graph=True)
        for one, other in zip(ours, exact, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=rtol, atol=rtol * other.abs().max().item())


@pytest.mark.parametrize("chunk", [1, 2 * len(SPELT), 2**23])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(
    ("alignment", "joint"), [(ONE_EACH, "sum"), (SEVERAL, "sum"), (SEVERAL, "mean")], ids=["one each", "sums", "means"]
)
@pytest.mark.parametrize("name", MAPS)
def test_the_divergence_and_its_gradient_are_the_published_ones(name, alignment, joint, bias, chunk, monkeypatch):
    monkeypatch.setattr(vocabulary_losses, "max_chunk_numel", lambda _: chunk)
    (ours, theirs), exact = sides(bias), sides(bias, torch.float64)
    found = divergence(name, alignment, joint, ours, theirs)
    assert found.dtype == torch.float32
    assert_alike(found, published(name, alignment, joint, *exact), ours, exact[0])


@pytest.mark.parametrize("chunk", [1, 2 * PIECES, 2**23])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_the_cross_entropy_and_its_gradient_are_those_of_torch(bias, chunk, monkeypatch):
    monkeypatch.setattr(vocabulary_losses, "max_chunk_numel", lambda _: chunk)
    (ours, _), (exact, _), labels = sides(bias), sides(bias, torch.float64), torch.arange(8) % PIECES
    found = vocabulary_cross_entropy(ours[0], labels, OutputLayer(*ours[1:]))
    assert_alike(found, F.cross_entropy(F.linear(*exact), labels, reduction="none"), ours, exact)


def test_smoothed_labels_are_those_of_torch():
    (ours, _), (exact, _), labels = sides(), sides(dtype=torch.float64), torch.arange(8) % PIECES
    found = vocabulary_cross_entropy(ours[0], labels, OutputLayer(*ours[1:]), label_smoothing=0.2)
    expected = F.cross_entropy(F.linear(*exact), labels, reduction="none", label_smoothing=0.2)
    assert_alike(found, expected, ours, exact)


def soft(student, teacher):
    """T² KL(teacher ‖ student) as it is written."""
    log_s, log_t = ((logits / TEMPERATURE).log_softmax(-1) for logits in (student, teacher))
    return TEMPERATURE**2 * (log_t.exp() * (log_t - log_s)).sum(-1)


# Of logits of both sides: as an objective has it, and as it is written.
LOGITS_LOSSES = {
    "soft": (partial(soft_cross_entropy, temperature=TEMPERATURE), soft),
    "mse": (mean_squared_error, lambda ours, theirs: (ours - theirs).square().mean(-1)),
    "hard": (hard_cross_entropy, lambda ours, theirs: F.cross_entropy(ours, theirs.argmax(-1), reduction="none")),
}


def both_sides(bias=True, dtype=torch.float32, n=8):
    """Features of a student and its output layer, all leaves; then a teacher's, over the same vocabulary."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(n, 4), (PIECES, 4), (PIECES,), (n, 5), (PIECES, 5), (PIECES,)]
    tensors = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    ours, theirs = [t.requires_grad_() for t in tensors[:3]], tensors[3:]
    return (ours, theirs) if bias else (ours[:2], theirs[:2])


@pytest.mark.parametrize("chunk", [1, 2 * PIECES, 2**23])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("name", LOGITS_LOSSES)
def test_a_loss_of_logits_and_its_gradient_are_those_of_whole_logits(name, bias, chunk, monkeypatch):
    monkeypatch.setattr(vocabulary_losses, "max_chunk_numel", lambda _: chunk)
    loss, written = LOGITS_LOSSES[name]
    (ours, theirs), (exact, goals) = both_sides(bias), both_sides(bias, torch.float64)
    found = vocabulary_loss(loss, ours[0], theirs[0], (OutputLayer(*ours[1:]), OutputLayer(*theirs[1:])))
    assert found.dtype == torch.float32
    assert_alike(found, written(F.linear(*exact), F.linear(*goals)), ours, exact)


@pytest.mark.promise(9)
def test_logits_over_two_vocabularies_are_not_compared_place_by_place():
    (ours, theirs), layer = both_sides(), OutputLayer(torch.randn(PIECES + 1, 5))
    with pytest.raises(ValueError, match=rf"has {PIECES} tokens, the teacher's {PIECES + 1}"):
        vocabulary_loss(mean_squared_error, ours[0], theirs[0], (OutputLayer(*ours[1:]), layer))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", MAPS)
def test_output_layers_in_half_precision_come_near(name, dtype):
    (ours, theirs), (exact, goals) = sides(), sides(dtype=torch.float64)
    leaves = ours
    ours, theirs = ([t[0], t[1].to(dtype), t[2]] for t in (ours, theirs))
    found = divergence(name, SEVERAL, "sum", ours, theirs)
    assert found.dtype == torch.float32
    assert_alike(found, published(name, SEVERAL, "sum", exact, goals), leaves, exact, rtol=0.05)


def test_autocast_changes_nothing_as_the_output_layer_has_its_format():
    ours, theirs = sides()
    plain = divergence("logsumexp", SEVERAL, "mean", ours, theirs)
    with torch.autocast("cpu", torch.bfloat16):
        cast = divergence("logsumexp", SEVERAL, "mean", ours, theirs)
    assert torch.equal(cast, plain)
    for one, other in zip(torch.autograd.grad(cast.sum(), ours), torch.autograd.grad(plain.sum(), ours), strict=True):
        assert torch.equal(one, other)


def test_small_gradients_in_float16_are_scaled_before_they_vanish():
    features, weight = torch.eye(2)[:1], (17.5 * torch.eye(2)).requires_grad_()
    vocabulary_cross_entropy(features, torch.tensor([0]), OutputLayer(weight.half())).mul(2.0**15).sum().backward()
    assert weight.grad[1, 0].item() == pytest.approx(2.0**15 * torch.tensor(-17.5).exp().item(), rel=0.01)


@pytest.mark.parametrize("name", MAPS)
def test_a_batch_without_a_match_has_an_empty_loss_and_no_gradient(name):
    ours, theirs = sides()
    nothing = torch.tensor([], dtype=torch.long)
    for alignment in (TokenAlignment(nothing, nothing), TokenAlignment(nothing, nothing, nothing)):
        values = divergence(name, alignment, "sum", ours, theirs)
        assert values.shape == (0,)
        for gradient, leaf in zip(torch.autograd.grad(values.sum(), ours), ours, strict=True):
            assert torch.equal(gradient, torch.zeros_like(leaf))


class Watch(TorchDispatchMode):
    """Counts matrix products, and how many numbers the largest tensor has that is made."""

    largest = products = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        self.products += function is torch.ops.aten.mm.default
        known, new = ({t.untyped_storage() for t in tree_leaves(each) if torch.is_tensor(t)} for each in (args, made))
        known = {storage.data_ptr() for storage in known}
        sizes = [storage.nbytes() // torch.float32.itemsize for storage in new if storage.data_ptr() not in known]
        self.largest = max(self.largest, *sizes, 0)
        return made


@pytest.mark.parametrize("even", [True, False], ids=["rows weigh the same", "rows don't"])
@pytest.mark.parametrize("loss", [*MAPS, *LOGITS_LOSSES, "cross_entropy"])
def test_neither_logits_of_all_tokens_nor_most_of_a_layer_are_ever_made(loss, even, monkeypatch):
    monkeypatch.setattr(vocabulary_losses, "max_chunk_numel", lambda _: 4 * len(SPELT))
    n, width = 40, 20
    student, teacher = torch.randn(n, 2, requires_grad=True), torch.randn(n, width)
    ours, theirs = OutputLayer(torch.randn(PIECES, 2, requires_grad=True)), OutputLayer(torch.randn(len(SPELT), width))
    other = OutputLayer(torch.randn(PIECES, width))
    labels, weights = torch.arange(n) % PIECES, torch.ones(()).expand(n) if even else torch.rand(n)
    with Watch() as watch:
        if loss == "cross_entropy":
            values = vocabulary_cross_entropy(student, labels, ours)
        elif loss in LOGITS_LOSSES:
            values = vocabulary_loss(LOGITS_LOSSES[loss][0], student, teacher, (ours, other))
        else:
            values = vocabulary_divergence(student, teacher, (ours, theirs), MAPS[loss], TEMPERATURE)
        values.backward(weights)
    # The largest is the gradient of the features.
    assert watch.largest == student.numel() < len(MAPS["sum"]) * width < n * PIECES


def test_logits_are_made_once_if_rows_weigh_the_same():
    products = []
    for weights in (None, torch.ones(()).expand(4), torch.arange(4.0)):
        with Watch() as watch, torch.set_grad_enabled(weights is not None):
            values = divergence("sum", SEVERAL, "mean", *sides())
            if weights is not None:
                values.backward(weights)
        products.append(watch.products)
    # Logits of both sides; the gradient by features and by weights; and all of it again.
    assert products == [2, 2 + 2, 2 * (2 + 2)]


# --- Output layers of models ------------------------------------------------------------------------------------------


def views(model, lengths=(5, 9, 3)):
    """The same random rows, padded and packed."""
    padded, packed = (TokenLayout.from_lengths(list(lengths), packed=packed) for packed in (False, True))
    ids = torch.randint(5, tiny.VOCAB_SIZE, (padded.tokens,), generator=torch.Generator().manual_seed(1))
    places = (packed.positions + position_offset(model))[None]
    return {
        "padded": ({"input_ids": padded.pad(ids), "attention_mask": padded.mask.long()}, padded),
        "packed": (
            {"input_ids": ids[None], "position_ids": places, "attention_mask": Packing.from_layout(packed)},
            packed,
        ),
    }


@pytest.mark.parametrize(
    ("family", "view"), [*((family, "padded") for family in FAMILIES), *((family, "packed") for family in PACKABLE)]
)
def test_features_and_output_layer_make_the_models_logits_and_gradients(family, view):
    model = tiny.model(family, "masked_lm")
    (inputs, padded), labels = views(model)["padded"], torch.arange(17) % tiny.VOCAB_SIZE
    logits = model(**inputs).logits[padded.mask]
    F.cross_entropy(logits, labels, reduction="sum").backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    if view == "packed":
        enable_packing(model)
    ran = []
    model.get_output_embeddings().register_forward_hook(lambda *_: ran.append(1))
    request = OutputRequest(features=True, output_layer=True)
    output = encode(model, *views(model)[view], request, stop_early=True)
    assert not ran
    assert output.logits is None
    torch.testing.assert_close(output.output_layer.columns(output.features).T, logits, rtol=1e-4, atol=1e-4)
    vocabulary_cross_entropy(output.features, labels, output.output_layer).sum().backward()
    assert model.get_input_embeddings().weight.grad.abs().sum() > 0
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            parameter.grad, expected[name], rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
    encode(model, *views(model)[view], request)
    assert ran == [1]


@pytest.mark.promise(9)
def test_an_output_layer_of_another_size_than_the_vocabulary_is_refused():
    model = tiny.model("deberta-v2", "masked_lm", legacy=False)
    request = OutputRequest(features=True, output_layer=True)
    with pytest.raises(ValueError, match=r"32 outputs, but its vocabulary has 160 tokens.*legacy=True"):
        encode(model, *views(model)["padded"], request)
