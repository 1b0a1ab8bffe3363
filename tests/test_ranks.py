"""Promise 3 across processes, and a teacher sharded over the ranks."""

import functools
import json

import jobs
import numpy
import pytest
from ranks import run_on_ranks
from safetensors.numpy import load_file

SMALL = {"max_steps": 6, "save_strategy": "no", "dropout": 0.0}


def curve(folder, name, world=1, **settings):
    assert run_on_ranks(jobs.distil, world, folder=str(folder), name=name, **SMALL | settings) == [0] * world
    return json.loads((folder / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """Gives the losses of a trainer on one process, with one batch of 64 rows a step."""
    sizes = {"per_device_train_batch_size": 64, "gradient_accumulation_steps": 1}
    return functools.cache(lambda trainer: curve(tmp_path_factory.mktemp("one"), "one", trainer=trainer, **sizes))


@pytest.mark.promise(3)
@pytest.mark.parametrize("trainer", jobs.TRAINERS)
def test_one_batch_of_64_is_four_of_16_is_two_ranks_of_32(trainer, one_process, tmp_path):
    def of(name, world, batch, accumulated):
        sizes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulated}
        return curve(tmp_path, name, world, trainer=trainer, **sizes)

    reference = one_process(trainer)
    four, two, both = of("four", 1, 16, 4), of("two", 2, 32, 1), of("both", 2, 8, 4)
    assert len(reference) == 6
    for other in (four, two, both):
        assert other == pytest.approx(reference, abs=1e-5)


@pytest.mark.promise(3)
@pytest.mark.parametrize(
    ("trainer", "zero"), [("distil", 1), ("distil", 2), ("distil", 3), ("vocabulary", 2), ("ckd", 3)]
)
def test_zero_has_the_loss_curve_of_one_process(trainer, zero, one_process, tmp_path):
    parts = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4}
    sharded = curve(tmp_path, "zero", world=2, zero=zero, trainer=trainer, **parts)
    assert sharded == pytest.approx(one_process(trainer), abs=1e-5)


@pytest.mark.promise(3)
@pytest.mark.parametrize("trainer", jobs.TRAINERS)
def test_fsdp_has_the_loss_curve_of_one_process(trainer, one_process, tmp_path):
    parts = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4}
    sharded = curve(tmp_path, "fsdp", world=2, fsdp=True, trainer=trainer, **parts)
    assert sharded == pytest.approx(one_process(trainer), abs=1e-5)


@pytest.mark.promise(3)
@pytest.mark.parametrize(
    ("student", "settings", "allowed"),  # allowed differences of losses and of weights
    [
        ("BiLSTM", {}, (1e-5, 1e-5)),
        ("static", {}, (1e-5, 1e-5)),
        ("frozen words, two of three layers", {"hidden_weight": 1.0, "layer_map": "2:4"}, (1e-5, 1e-5)),
        ("checkpointed, bf16", {"activation_checkpointing": True, "bf16": True}, (1e-2, 1e-3)),
    ],
    ids=["BiLSTM", "static", "frozen words, unused layer", "checkpointed, bf16"],
)
def test_fsdp_trains_and_saves_every_kind_of_student(student, settings, allowed, tmp_path):
    settings = settings | {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "student": student}
    settings |= {"eval_strategy": "steps", "eval_steps": 3, "load_best_model_at_end": True, "learning_rate": 0.5}

    def found(name, world, **sharding):
        job = {"folder": str(tmp_path), "name": name, "per_device_train_batch_size": 16 // world}
        assert run_on_ranks(jobs.distil_into, world, **job, **settings, **sharding) == [0] * world
        return json.loads((tmp_path / f"{name}.json").read_text()), load_file(tmp_path / name / "model.safetensors")

    (losses, weights), (curve, shares) = found("one", 1), found("ranks", 2, fsdp=True)
    assert losses[-1] < losses[0]
    assert curve == pytest.approx(losses, abs=allowed[0])
    assert weights.keys() == shares.keys()
    for key, expected in weights.items():
        numpy.testing.assert_allclose(shares[key], expected, atol=allowed[1], err_msg=key)


def test_fsdp_evaluates_first_and_trains_again(tmp_path):
    found = []
    for name, world, sharding in (("one", 1, {}), ("ranks", 2, {"fsdp": True})):
        assert run_on_ranks(jobs.train_twice, world, folder=str(tmp_path), name=name, **sharding) == [0] * world
        found.append(json.loads((tmp_path / f"{name}.json").read_text()))
    assert len(found[0]) == 9
    assert found[1] == pytest.approx(found[0], abs=1e-5)


@pytest.mark.promise(3)
@pytest.mark.parametrize(
    "sharding", [{}, {"zero": 2}, {"zero": 3}, {"fsdp": True}], ids=["DDP", "ZeRO-2", "ZeRO-3", "FSDP"]
)
def test_a_sentence_transformer_with_dense_is_trained_on_ranks_as_on_one(sharding, tmp_path):
    def found(name, world, sharding):
        sizes = {"max_steps": 4, "per_device_train_batch_size": 16 // world, "learning_rate": 3e-3}
        job = {"folder": str(tmp_path), "name": name, **sharding, **sizes}
        assert run_on_ranks(jobs.distil_sentence_transformer, world, **job) == [0] * world
        return json.loads((tmp_path / f"{name}.json").read_text())

    one, ranks = found("one", 1, {}), found("ranks", 2, sharding)
    assert ranks["losses"] == pytest.approx(one["losses"], abs=1e-5)
    assert ("in place" in ranks) == (sharding in ({}, {"zero": 2}))
    for each in ranks.keys() - {"losses"}:
        assert numpy.allclose(ranks[each], one["saved"], atol=1e-4), each


@pytest.mark.parametrize("sharding", [{"zero": 3}, {"fsdp": True}], ids=["ZeRO-3", "FSDP"])
def test_a_teacher_sharded_over_the_ranks_teaches_the_same(sharding, tmp_path):
    common = {"world": 2, "per_device_train_batch_size": 4, **sharding}
    whole = curve(tmp_path, "whole", **common)
    sharded = curve(tmp_path, "sharded", shard_teacher=True, **common)
    assert sharded == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("fsdp", [False, True])
def test_evaluation_runs_on_two_ranks(fsdp, tmp_path):
    assert len(curve(tmp_path, "evaluated", world=2, evaluate=True, fsdp=fsdp)) == 6


def test_ranks_see_different_rows_and_together_all(tmp_path):
    assert run_on_ranks(jobs.rows_seen, 2, folder=str(tmp_path)) == [0, 0]
    (words, first), (_, second) = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    assert len(first) == len(second) == 32
    assert sorted(first + second) == sorted(words)
