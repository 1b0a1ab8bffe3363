"""Promise 3 across processes, and a teacher sharded over the ranks."""

import json

import jobs
import numpy
import pytest
from ranks import run_on_ranks

SMALL = {"max_steps": 6, "save_strategy": "no", "dropout": 0.0}


def curve(folder, name, world=1, **settings):
    assert run_on_ranks(jobs.distil, world, folder=str(folder), name=name, **SMALL | settings) == [0] * world
    return json.loads((folder / f"{name}.json").read_text())


@pytest.mark.promise(3)
@pytest.mark.parametrize("trainer", jobs.TRAINERS)
def test_one_batch_of_64_is_four_of_16_is_two_ranks_of_32(trainer, tmp_path):
    def of(name, world, batch, accumulated):
        sizes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulated}
        return curve(tmp_path, name, world, trainer=trainer, **sizes)

    reference = of("one", 1, 64, 1)
    four, two, both = of("four", 1, 16, 4), of("two", 2, 32, 1), of("both", 2, 8, 4)
    assert len(reference) == 6
    for other in (four, two, both):
        assert other == pytest.approx(reference, abs=1e-5)


@pytest.mark.promise(3)
@pytest.mark.parametrize(
    ("trainer", "zero"), [("distil", 1), ("distil", 2), ("distil", 3), ("vocabulary", 2), ("ckd", 3)]
)
def test_zero_has_the_loss_curve_of_one_process(trainer, zero, tmp_path):
    whole, parts = {"per_device_train_batch_size": 64}, {"per_device_train_batch_size": 8}
    reference = curve(tmp_path, "one", trainer=trainer, gradient_accumulation_steps=1, **whole)
    sharded = curve(tmp_path, "zero", world=2, zero=zero, trainer=trainer, gradient_accumulation_steps=4, **parts)
    assert sharded == pytest.approx(reference, abs=1e-5)


@pytest.mark.promise(3)
@pytest.mark.parametrize("zero", [0, 2, 3])
def test_a_sentence_transformer_with_dense_is_trained_on_ranks_as_on_one(zero, tmp_path):
    def found(name, world, zero):
        sizes = {"max_steps": 4, "per_device_train_batch_size": 16 // world, "learning_rate": 3e-3}
        job = {"folder": str(tmp_path), "name": name, "zero": zero, **sizes}
        assert run_on_ranks(jobs.distil_sentence_transformer, world, **job) == [0] * world
        return json.loads((tmp_path / f"{name}.json").read_text())

    one, ranks = found("one", 1, 0), found("ranks", 2, zero)
    assert ranks["losses"] == pytest.approx(one["losses"], abs=1e-5)
    for each in ("saved", "in place") if zero < 3 else ("saved",):
        assert numpy.allclose(ranks[each], one["saved"], atol=1e-4), each


def test_a_teacher_sharded_over_the_ranks_teaches_the_same(tmp_path):
    common = {"world": 2, "zero": 3, "per_device_train_batch_size": 4}
    whole = curve(tmp_path, "whole", **common)
    sharded = curve(tmp_path, "sharded", shard_teacher=True, **common)
    assert sharded == pytest.approx(whole, abs=1e-5)


def test_evaluation_runs_on_two_ranks(tmp_path):
    assert len(curve(tmp_path, "evaluated", world=2, evaluate=True)) == 6


def test_ranks_see_different_rows_and_together_all(tmp_path):
    assert run_on_ranks(jobs.rows_seen, 2, folder=str(tmp_path)) == [0, 0]
    (words, first), (_, second) = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    assert len(first) == len(second) == 32
    assert sorted(first + second) == sorted(words)
