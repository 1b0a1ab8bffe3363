"""Numbers that are learnt within bounds: they come back from them, and don't decay."""

import pytest
import tiny
import torch
from datasets import Dataset

from retort import CKDTrainer, CKDTrainingArguments, VocabReducedMLMTrainingArguments, tokenize
from retort.modeling.losses import LearnedCurvature, LearnedScale
from retort.trainers.steps import KeepWithinBounds

KINDS = LearnedScale, LearnedCurvature


def learn(number, goal, optimizer, steps):
    """Bring a number to a goal, as a Trainer does."""
    for _ in range(steps):
        optimizer.zero_grad()
        (number.value.log() - torch.tensor(float(goal)).log()).square().sum().backward()
        optimizer.step()
        KeepWithinBounds().on_optimizer_step(None, None, None, model=torch.nn.ModuleList([number]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_stops_at_its_bounds_and_comes_back(kind):
    number, (lowest, highest) = kind(1.0), kind.bounds
    optimizer = torch.optim.SGD(number.parameters(), lr=0.3)
    learn(number, highest * 50, optimizer, 60)
    assert number.value.item() == pytest.approx(highest, rel=1e-5)
    learn(number, 10, optimizer, 60)
    assert number.value.item() == pytest.approx(10, rel=1e-3)
    learn(number, lowest / 50, optimizer, 60)
    assert number.value.item() == pytest.approx(lowest, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_that_a_step_has_thrown_far_out_is_back_before_the_next(kind):
    number = kind(1.0)
    number.logarithm.data.fill_(9.0)
    learn(number, 10, torch.optim.SGD(number.parameters(), lr=0.3), 60)
    assert number.value.item() == pytest.approx(10, rel=1e-3)


@pytest.mark.promise(9)
@pytest.mark.parametrize("kind", KINDS)
def test_a_start_outside_is_refused(kind):
    with pytest.raises(ValueError, match="but starts at 200"):
        kind(200.0)


@pytest.mark.promise(9)
def test_arguments_that_would_start_outside_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"contrastive_temperature=0\.005: .*between 0\.01 and 10000"):
        tiny.arguments(tmp_path, CKDTrainingArguments, contrastive_temperature=0.005, learn_temperature=True)
    for settings in ({"contrastive_temperature": 0.005}, {"contrastive_temperature": 0.01, "learn_temperature": True}):
        tiny.arguments(tmp_path, CKDTrainingArguments, **settings)
    with pytest.raises(ValueError, match=r"curvature=1000\.0: .*between 0\.0001 and 100\.0"):
        tiny.arguments(tmp_path, VocabReducedMLMTrainingArguments, contrast_space="hyperbolic", curvature=1000.0)


def make_trainer(tmp_path, tokenizer, **settings):
    data = tokenize(Dataset.from_dict({"text": tiny.sentences(64)}), tokenizer)
    defaults = {"max_steps": 12, "save_strategy": "no", "disable_dropout": True, "learn_temperature": True}
    args = tiny.arguments(tmp_path, CKDTrainingArguments, **defaults | settings)
    teacher, student = tiny.model("bert", layers=4), tiny.model("bert", seed=1)
    return CKDTrainer(student, teacher, args, train_dataset=data, processing_class=tokenizer)


def test_a_trainer_leaves_the_bound_when_the_loss_wants_that(tokenizer, tmp_path):
    """The student is random: a large scale punishes what it is sure of. Momentum goes on pushing for some steps."""
    trainer = make_trainer(tmp_path, tokenizer, contrastive_temperature=0.01, learning_rate=0.05, optim="sgd")
    for parameter in trainer.student.parameters():
        parameter.requires_grad_(False)
    number = trainer.model.objectives["contrastive"].scale
    number.logarithm.data.fill_(6.0)  # as a step leaves it
    KeepWithinBounds().on_optimizer_step(None, None, None, model=trainer.model)
    assert number.value.item() == pytest.approx(100, rel=1e-5)
    trainer.train()
    assert number.value.item() < 90


def test_a_trainer_holds_the_bounds_whatever_a_step_does(tokenizer, tmp_path):
    trainer = make_trainer(tmp_path, tokenizer, contrastive_temperature=0.011, learning_rate=5.0)
    trainer.train()
    lowest, highest = LearnedScale.bounds
    assert lowest * (1 - 1e-5) <= trainer.model.objectives["contrastive"].scale.value.item() <= highest * (1 + 1e-5)


def test_a_learnt_scale_does_not_decay_while_weights_do(tokenizer, tmp_path):
    trainer = make_trainer(tmp_path, tokenizer, weight_decay=0.1)
    groups = trainer.create_optimizer().param_groups
    decays = {id(each): group["weight_decay"] for group in groups for each in group["params"]}
    assert decays[id(trainer.model.objectives["contrastive"].scale.logarithm)] == 0
    assert decays[id(trainer.student.get_input_embeddings().weight)] == 0.1
