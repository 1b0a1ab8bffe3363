"""What a head's outputs are, a number, one class or several, decides what they are compared by."""

import pytest
import tiny
import torch
import torch.nn.functional as F
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from steps import step_of

from retort import DistillTrainer, tokenize
from retort.modeling import losses

MULTI_LABEL = {"problem_type": "multi_label_classification"}
VECTORS = [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]


def make_trainer(tmp_path, tokenizer, labels=None, *, task="sequence", sizes=None, teacher_sizes=None, **settings):
    texts = Dataset.from_dict({"text": tiny.sentences(8), **({"y": labels} if labels else {})})
    rows = tokenize(texts, tokenizer, labels="y" if labels else None)
    sizes = sizes or {}
    student = tiny.model("bert", task, seed=1, **sizes)
    teacher = tiny.model("bert", task, **(sizes if teacher_sizes is None else teacher_sizes))
    extra = settings.pop("extra", {})
    args = tiny.arguments(tmp_path, save_strategy="no", disable_dropout=True, **settings)
    return DistillTrainer(student, teacher, args, train_dataset=rows, processing_class=tokenizer, **extra)


def loss_and_logits(trainer, rows):
    """The loss of a step, and both sides' logits by transformers, in float64 and in the rows' order."""
    (batch,), counts = step_of(trainer, rows)
    loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=counts)
    loss.backward()
    ids = [torch.tensor([trainer.train_dataset[i]["input_ids"]]) for i in rows]
    models = [trainer.student, *(trainer.teacher.models if trainer.teacher else ())]
    with torch.no_grad():
        return loss.item(), *(torch.cat([model(each).logits for each in ids]).double() for model in models)


@pytest.mark.parametrize("kind", ["kl", "hard", "mse"])
def test_one_number_is_learnt_by_its_squared_error(kind, tokenizer, tmp_path):
    trainer = make_trainer(tmp_path, tokenizer, sizes={"labels": 1}, logits_weight=1.0, logits_loss=kind)
    loss, ours, theirs = loss_and_logits(trainer, range(4))
    assert loss == pytest.approx((ours - theirs).square().mean().item(), rel=1e-5)
    assert loss > 1e-3
    assert trainer.student.classifier.weight.grad.abs().max() > 1e-3


def test_several_numbers_are_learnt_from_the_teacher_and_from_labels(tokenizer, tmp_path):
    sizes, goals = {"problem_type": "regression"}, [[-100.0, 0.5, 2.0]] * 8
    trainer = make_trainer(tmp_path, tokenizer, goals, sizes=sizes, logits_weight=1.0, label_weight=1.0)
    loss, ours, theirs = loss_and_logits(trainer, range(4))
    expected = (ours - theirs).square().mean() + (ours - torch.tensor(goals[:4])).square().mean()
    assert loss == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("kind", ["kl", "hard", "mse"])
def test_classes_that_do_not_exclude_each_other_are_learnt_one_by_one(kind, tokenizer, tmp_path):
    settings = {"logits_weight": 1.0, "logits_loss": kind, "temperature": 3.0}
    trainer = make_trainer(tmp_path, tokenizer, sizes=MULTI_LABEL, **settings)
    loss, ours, theirs = loss_and_logits(trainer, range(4))
    if kind == "kl":
        p, q = (theirs / 3).sigmoid(), (ours / 3).sigmoid()
        expected = 9 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    elif kind == "hard":
        expected = F.binary_cross_entropy_with_logits(ours, (theirs > 0).double())
    else:
        expected = (ours - theirs).square().mean()
    assert loss == pytest.approx(expected.item(), rel=1e-5)


@given(st.floats(0.5, 8.0), st.integers(1, 5), st.integers(0, 99))
def test_binary_divergence_is_t_squared_times_the_kl_of_each_class(temperature, classes, seed):
    student, teacher = torch.randn(2, 3, classes, generator=torch.Generator().manual_seed(seed)) * 3
    p, q = ((each.double() / temperature).sigmoid() for each in (teacher, student))
    expected = temperature**2 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean(-1)
    found = losses.binary_divergence(student, teacher, temperature)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-4)


def test_binary_divergence_of_a_class_that_is_ruled_out_is_that_of_a_probability_of_zero():
    found = losses.binary_divergence(torch.tensor([[1.0]]), torch.tensor([[-torch.inf]]), 2.0)
    assert found.item() == pytest.approx(4 * F.softplus(torch.tensor(0.5)).item(), rel=1e-6)


def test_several_labels_of_a_row_have_the_loss_of_transformers(tokenizer, tmp_path):
    trainer = make_trainer(tmp_path, tokenizer, VECTORS * 2, sizes=MULTI_LABEL, label_weight=1.0)
    loss, ours = loss_and_logits(trainer, range(4))[:2]
    assert loss == pytest.approx(F.binary_cross_entropy_with_logits(ours, torch.tensor(VECTORS).double()).item())
    row = trainer.train_dataset[0]
    with torch.no_grad():
        theirs = trainer.student(torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss
    assert loss_and_logits(trainer, [0])[0] == pytest.approx(theirs.item(), rel=1e-5)


def test_a_row_whose_labels_are_not_known_is_left_out(tokenizer, tmp_path):
    labels = [*VECTORS[:3], [-100.0] * 3] * 2
    trainer = make_trainer(tmp_path, tokenizer, labels, sizes=MULTI_LABEL, label_weight=1.0)
    loss, ours = loss_and_logits(trainer, range(4))[:2]
    expected = F.binary_cross_entropy_with_logits(ours[:3], torch.tensor(VECTORS[:3]).double())
    assert loss == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("task", ["sequence", "token"])
def test_labels_are_smoothed_as_transformers_smooths_them(task, tokenizer, tmp_path):
    from transformers.modeling_outputs import ModelOutput
    from transformers.trainer_pt_utils import LabelSmoother

    texts = tiny.sentences(8)
    if task == "sequence":
        rows = tokenize(Dataset.from_dict({"text": texts, "y": [i % 3 for i in range(8)]}), tokenizer, labels="y")
    else:
        words = [text.split() for text in texts]
        data = Dataset.from_dict({"w": words, "y": [[i % 3 for i in range(len(each))] for each in words]})
        rows = tokenize(data, tokenizer, words="w", labels="y")
    settings = {"label_weight": 1.0, "label_smoothing_factor": 0.3, "disable_dropout": True, "save_strategy": "no"}
    args = tiny.arguments(tmp_path, **settings)
    student = tiny.model("bert", task)
    trainer = DistillTrainer(student, args=args, train_dataset=rows, processing_class=tokenizer)
    (batch,), counts = step_of(trainer, [0])
    loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=counts)
    with torch.no_grad():
        logits = tiny.model("bert", task)(torch.tensor([rows[0]["input_ids"]])).logits
    expected = LabelSmoother(epsilon=0.3)(ModelOutput(logits=logits), torch.tensor([rows[0]["labels"]]))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("labels", "sizes", "settings", "message"),
    [
        (None, {}, {"logits_weight": 1.0, "label_smoothing_factor": 0.1}, "label_smoothing_factor=0.1: .*label_weight"),
        (VECTORS * 2, MULTI_LABEL, {"label_weight": 1.0, "label_smoothing_factor": 0.1}, "one class for each row"),
        ([0.5] * 8, {"labels": 1}, {"label_weight": 1.0, "label_smoothing_factor": 0.1}, "one class for each row"),
        (
            [0] * 8,
            {},
            {"label_weight": 1.0, "label_smoothing_factor": 1.5},
            "=1.5: label smoothing must be from 0 to 1",
        ),
        ([0] * 8, MULTI_LABEL, {"label_weight": 1.0}, r"list of 3 floats for each row.*\[1\.0, 0\.0, 1\.0\].*int64"),
        (VECTORS * 2, {}, {"label_weight": 1.0}, "lists of floats.*problem_type='multi_label_classification'"),
        ([[1.0, 0.0]] * 8, MULTI_LABEL, {"label_weight": 1.0}, r"has 3 outputs, but .* hold \[2\] floats"),
        ([[1.0, 0.0, 2.0]] * 8, MULTI_LABEL, {"label_weight": 1.0}, r"from 0 to 1, but these are 0\.0 to 2\.0"),
        ([[1.0, -100.0, 0.0]] * 8, MULTI_LABEL, {"label_weight": 1.0}, "hold -100 .no label. for some classes only"),
        ([[-100.0] * 3] * 8, {"problem_type": "regression"}, {"label_weight": 1.0}, "hold only -100"),
        (
            [0] * 8,
            {},
            {"label_weight": 1.0, "extra": {"compute_loss_func": print}},
            "compute_loss_func is not supported",
        ),
    ],
)
def test_what_would_have_no_effect_or_another_is_refused(labels, sizes, settings, message, tokenizer, tmp_path):
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, tokenizer, labels, sizes=sizes, **settings)


@pytest.mark.promise(9)
def test_a_teacher_whose_outputs_mean_something_else_is_refused(tokenizer, tmp_path):
    with pytest.raises(ValueError, match=r"student's problem_type is 'single_label.*teacher's 'multi_label"):
        make_trainer(tmp_path, tokenizer, sizes={}, teacher_sizes=MULTI_LABEL, logits_weight=1.0)
