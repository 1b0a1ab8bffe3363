"""Promise 2: a run that was killed and resumed ends with bitwise the weights of one that was not."""

import random

import jobs
import pytest
import torch
from ranks import KILLED, run_on_ranks
from safetensors.torch import load_file

SETUPS = {"one process": (1, 0), "DDP x 2": (2, 0), "ZeRO-2 x 2": (2, 2), "ZeRO-3 x 2": (2, 3)}


RUNS = {
    "live teacher": ("distil", False),
    "cached teacher": ("distil", True),
    "queue": ("ckd", False),
    "gradient cache": ("ckd, student's keys", True),
    "translations": ("translations", False),
    "vocabulary": ("vocabulary", False),
}
# Losses over vocabularies are refused under ZeRO-3 (test_vocab_reduced_mlm.py).
CASES = [
    pytest.param(*run, *setup, id=f"{name}, {where}")
    for name, run in RUNS.items()
    for where, setup in SETUPS.items()
    if (name, where) != ("vocabulary", "ZeRO-3 x 2")
]


@pytest.mark.promise(2)
@pytest.mark.parametrize(("trainer", "cached", "world", "zero"), CASES)
def test_killed_and_resumed_is_bitwise_the_uninterrupted_run(trainer, cached, world, zero, tmp_path):
    # 128 rows in steps of 16 or 32: 16 or 8 steps over 2 epochs, saved every 2.
    kill_at = random.randint(3, 15 if world == 1 else 7)
    print(f"killed at step {kill_at}")
    common = {"folder": str(tmp_path), "zero": zero, "trainer": trainer, "cached": cached, "num_train_epochs": 2}
    assert run_on_ranks(jobs.distil, world, name="whole", **common) == [0] * world
    assert KILLED in run_on_ranks(jobs.distil, world, name="killed", kill_at=kill_at, **common)
    assert run_on_ranks(jobs.distil, world, name="killed", resume=True, **common) == [0] * world
    whole, resumed = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("whole", "killed"))
    assert whole.keys() == resumed.keys()
    assert any(key.startswith("heads.") for key in whole)
    differing = [key for key in whole if not torch.equal(whole[key], resumed[key])]
    assert differing == []
    assert ("queue.keys" in whole) == trainer.startswith("ckd")
    exported = load_file(tmp_path / "killed/student/model.safetensors")
    assert not any("head" in key and "attention" not in key for key in exported)
    top = "cls.predictions.transform.dense.weight" if trainer == "vocabulary" else "classifier.weight"
    assert torch.equal(exported[top], whole[f"student.{top}"])
