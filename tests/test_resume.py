"""Promise 2: a run that was killed and resumed ends with bitwise the weights of one that was not."""

import os
import pickle
import random
import shutil

import jobs
import pytest
import torch
from ranks import KILLED, run_on_ranks
from safetensors.torch import load_file

from retort.trainers.saving import MANIFEST_FILE, checkpoint_in_progress, weights_alone

SETUPS = {
    "one process": (1, {}),
    "DDP x 2": (2, {}),
    "ZeRO-2 x 2": (2, {"zero": 2}),
    "ZeRO-3 x 2": (2, {"zero": 3}),
    "FSDP x 2": (2, {"fsdp": True}),
}


RUNS = {
    "live teacher": ("distil", False),
    "cached teacher": ("distil", True),
    "queue": ("ckd", False),
    "gradient cache": ("ckd, student's keys", True),
    "translations": ("translations", False),
    "vocabulary": ("vocabulary", False),
}
# A case under ZeRO-3 takes 20 seconds: the others are left to benchmarks/kill_and_resume. Losses over vocabularies are
# refused there (test_vocab_reduced_mlm.py). Under FSDP, these cases have all that a checkpoint holds.
CASES = [
    pytest.param(*run, *setup, id=f"{name}, {where}")
    for name, run in RUNS.items()
    for where, setup in SETUPS.items()
    if where != "ZeRO-3 x 2" or name in ("live teacher", "cached teacher")
    if where != "FSDP x 2" or name in ("cached teacher", "queue", "vocabulary")
]


@pytest.mark.promise(2)
@pytest.mark.parametrize(("trainer", "cached", "world", "sharding"), CASES)
def test_killed_and_resumed_is_bitwise_the_uninterrupted_run(trainer, cached, world, sharding, tmp_path):
    # 128 rows in steps of 16 or 32: 16 or 8 steps over 2 epochs, saved every 2.
    kill_at = random.randint(3, 15 if world == 1 else 7)
    print(f"killed at step {kill_at}")
    common = {"folder": str(tmp_path), "trainer": trainer, "cached": cached, "num_train_epochs": 2, **sharding}
    assert run_on_ranks(jobs.distil, world, name="whole", **common) == [0] * world
    assert KILLED in run_on_ranks(jobs.distil, world, name="killed", kill_at=kill_at, **common)
    assert run_on_ranks(jobs.distil, world, name="killed", resume=True, **common) == [0] * world
    whole, resumed = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("whole", "killed"))
    assert whole.keys() == resumed.keys()
    assert any(key.startswith("objectives.") for key in whole)
    differing = [key for key in whole if not torch.equal(whole[key], resumed[key])]
    assert differing == []
    assert ("queue.keys" in whole) == trainer.startswith("ckd")
    exported = load_file(tmp_path / "killed/student/model.safetensors")
    assert not any("head" in key and "attention" not in key for key in exported)
    assert "cls.predictions.decoder.weight" not in exported  # tied, and saved once
    top = "cls.predictions.transform.dense.weight" if trainer == "vocabulary" else "classifier.weight"
    assert torch.equal(exported[top], whole[f"student.{top}"])


@pytest.mark.promise(2)
@pytest.mark.parametrize("trainer", jobs.TRAINERS)
def test_a_run_that_had_its_last_step_inside_an_epoch_is_not_given_another(trainer, tmp_path):
    # Killed between its last checkpoint and the end of the final save. 12 steps of 8 an epoch; a schedule that ends at
    # 0 would hide a 13th.
    common = {"folder": str(tmp_path), "name": "run", "trainer": trainer, "max_steps": 12, "save_steps": 6}
    common |= {"lr_scheduler_type": "constant"}
    jobs.distil(**common)
    before = torch.load(tmp_path / "run.pt", weights_only=True)
    jobs.distil(**common, resume=True)
    after = torch.load(tmp_path / "run.pt", weights_only=True)
    assert before.keys() == after.keys()
    assert [key for key in before if not torch.equal(before[key], after[key])] == []


@pytest.mark.promise(2)
def test_saving_more_often_changes_no_weight_under_dropout(tmp_path):
    # What is written with a checkpoint, its card among it, must draw no random numbers.
    for name, steps in {"often": 1, "once": 4}.items():
        jobs.distil(str(tmp_path), name, trainer="distil", max_steps=4, save_steps=steps, keep_projector=True)
    often, once = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("often", "once"))
    assert [key for key in often if not torch.equal(often[key], once[key])] == []


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: str):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.promise(7)
def test_what_asks_for_whole_pickles_gets_weights_alone(tmp_path):
    torch.save({"payload": Payload(str(tmp_path / "it ran"))}, tmp_path / "states.pt")
    with weights_alone(), pytest.raises(pickle.UnpicklingError, match="mkdir"):
        torch.load(tmp_path / "states.pt", weights_only=False)
    assert not (tmp_path / "it ran").exists()
    torch.load(tmp_path / "states.pt", weights_only=False)
    assert (tmp_path / "it ran").exists()


class Attribute:
    """Pickled as Python before 3.11.4 pickles a member of an enum."""

    def __init__(self, owner: type, name: str):
        self.owner, self.name = owner, name

    def __reduce__(self):
        return getattr, (self.owner, self.name)


@pytest.mark.promise(7)
def test_of_attributes_only_the_stages_of_deepspeed_are_loaded(tmp_path):
    """Debian's Python is 3.11.2, whose checkpoints could not be resumed."""
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum

    file = tmp_path / "states.pt"
    with weights_alone():
        torch.save({"zero_stage": Attribute(ZeroStageEnum, "gradients")}, file)
        assert torch.load(file, weights_only=False) == {"zero_stage": ZeroStageEnum.gradients}
        for owner, name in ((LossScaler, "__init__"), (ZeroStageEnum, "__subclasses__")):
            torch.save({"payload": Attribute(owner, name)}, file)
            with pytest.raises(pickle.UnpicklingError, match="getattr"):
                torch.load(file, weights_only=False)


@pytest.mark.promise(7)
def test_a_payload_in_a_checkpoint_of_deepspeed_does_not_run(tmp_path):
    common = {"folder": str(tmp_path), "name": "run", "zero": 2}
    assert run_on_ranks(jobs.distil, 1, **common, max_steps=2) == [0]
    checkpoint, good = tmp_path / "run" / "checkpoint-2", tmp_path / "good"
    shutil.copytree(checkpoint, good)
    (states,) = good.rglob("*_optim_states.pt")
    name, content = states.relative_to(good), torch.load(states, weights_only=False)
    for payload, expected in (({"payload": Payload(str(tmp_path / "it ran"))}, [1]), ({}, [0])):
        with checkpoint_in_progress(checkpoint):  # whoever writes a payload writes the manifest, too
            shutil.copytree(good, checkpoint, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST_FILE))
            torch.save(content | payload, checkpoint / name)
        assert run_on_ranks(jobs.distil, 1, **common, max_steps=3, resume=True) == expected
        assert not (tmp_path / "it ran").exists()
