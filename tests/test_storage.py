"""Full disks and kills: the former files or the new ones, and nothing in between."""

import json
import multiprocessing
import os
import resource
import signal
import stat
from contextlib import contextmanager
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import save_file
from transformers import AutoModel
from transformers.trainer_utils import get_last_checkpoint

from retort.data import replace_files, sweep, write_json, write_text
from retort.trainers.saving import (
    checkpoint_in_progress,
    last_complete_checkpoint,
    remove_incomplete_checkpoints,
    rotate_checkpoints,
)
from retort.trainers.saving.checkpoints import INCOMPLETE_MARKER, MANIFEST_FILE

# What Python, safetensors and torch.save say when a write fails.
WRITE_FAILED = r"too large|os error 27|unexpected pos"


@contextmanager
def disk_that_fills_up(after: int):
    """Let no file grow beyond `after` bytes: writes fail in the kernel, whoever makes them, Python, Rust or C++."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def contents(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def killed_in(block) -> None:
    """Enter a context manager in a process that is then killed by SIGKILL: nothing after that runs."""

    def enter():
        with block as staging:
            if staging is not None:
                (staging / "model.safetensors").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=enter)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def make_checkpoint(output_dir, step: int, *, complete: bool = True):
    folder = output_dir / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    if not complete:
        (folder / INCOMPLETE_MARKER).touch()
    return folder


# --- replace_files ------------------------------------------------------------------------------------------------


@pytest.mark.promise(9)
def test_a_disk_that_fills_up_while_a_model_is_saved_leaves_the_former_model_and_nothing_else(tmp_path):
    folder = tmp_path / "student"
    former = tiny.model("bert", seed=1)
    former.save_pretrained(folder)
    before = contents(folder)
    # The configuration fits, the weights don't: the half that was written must not be seen.
    with (
        pytest.raises(Exception, match=WRITE_FAILED),
        replace_files(folder) as staging,
        disk_that_fills_up(after=20_000),
    ):
        tiny.model("bert", seed=2).save_pretrained(staging)
    assert contents(folder) == before
    assert os.listdir(tmp_path) == ["student"]
    loaded = AutoModel.from_pretrained(folder)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), former.parameters(), strict=True))


@pytest.mark.promise(9)
def test_a_disk_that_fills_up_while_a_new_folder_is_written_leaves_no_folder(tmp_path):
    with (
        pytest.raises(Exception, match=WRITE_FAILED),
        replace_files(tmp_path / "student") as staging,
        disk_that_fills_up(after=1000),
    ):
        save_file({"weight": torch.zeros(1000)}, staging / "model.safetensors")
    assert os.listdir(tmp_path) == []


def test_files_of_all_depths_are_replaced_or_added_and_others_left_alone(tmp_path):
    folder = tmp_path / "student"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "1_Pooling" / "config.json").write_text("old")
    (folder / "report.json").write_text("kept")
    with replace_files(folder) as staging:
        (staging / "1_Pooling").mkdir()
        (staging / "1_Pooling" / "config.json").write_text("new")
        (staging / "2_Dense").mkdir()
        (staging / "2_Dense" / "config.json").write_text("added")
        assert (folder / "1_Pooling" / "config.json").read_text() == "old"
    expected = {"1_Pooling/config.json": b"new", "2_Dense/config.json": b"added", "report.json": b"kept"}
    assert contents(folder) == expected


def test_a_new_folder_appears_whole_and_with_the_usual_permissions(tmp_path):
    usual = tmp_path / "usual"
    usual.mkdir()
    with replace_files(tmp_path / "a" / "student") as staging:
        (staging / "config.json").write_text("{}")
        assert not (tmp_path / "a" / "student").exists()
    made = tmp_path / "a" / "student"
    assert contents(tmp_path / "a") == {"student/config.json": b"{}"}
    assert stat.S_IMODE(made.stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)


def test_a_directory_in_the_way_of_the_last_file_is_found_before_the_first_is_moved(tmp_path):
    folder = tmp_path / "student"
    (folder / "z").mkdir(parents=True)
    (folder / "a").write_text("old")

    def write_both():
        with replace_files(folder) as staging:
            (staging / "a").write_text("new")
            (staging / "z").write_text("new")

    with pytest.raises(IsADirectoryError, match="directory of that name"):
        write_both()
    assert contents(folder) == {"a": b"old"}


def test_what_killed_processes_left_beside_and_inside_a_folder_goes_with_the_next_write(tmp_path):
    folder = tmp_path / "student"
    killed_in(replace_files(folder))  # beside it: it doesn't exist yet
    assert len(os.listdir(tmp_path)) == 1
    write_text(folder / "report.md", "whole")
    write_text(tmp_path / "note", "whole")
    killed_in(replace_files(folder))
    assert len(os.listdir(folder)) == 2
    write_text(folder / "report.md", "again")
    assert (sorted(os.listdir(tmp_path)), os.listdir(folder)) == (["note", "student"], ["report.md"])


def test_what_a_living_process_writes_is_not_swept(tmp_path):
    with replace_files(tmp_path) as staging:
        (staging / "slow").write_text("half")
        write_text(tmp_path / "fast", "whole")
        child = multiprocessing.get_context("fork").Process(target=sweep, args=(tmp_path,))
        child.start()
        child.join()
        assert (staging / "slow").exists()
    assert contents(tmp_path) == {"slow": b"half", "fast": b"whole"}


@pytest.mark.promise(9)
def test_a_full_disk_is_called_full_and_the_folder_named(tmp_path):
    with (
        pytest.raises(OSError, match=r"full: .*student can't be written and was not changed"),
        replace_files(tmp_path / "student") as staging,
        disk_that_fills_up(after=1000),
    ):
        save_file({"weight": torch.zeros(1000)}, staging / "model.safetensors")


# --- single files -------------------------------------------------------------------------------------------------


@pytest.mark.promise(9)
def test_a_text_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "card" / "README.md"
    write_text(path, "former — ü\n")
    with pytest.raises(OSError, match="too large"), disk_that_fills_up(after=5000):
        write_text(path, "x" * 10_000)
    assert path.read_text(encoding="utf-8") == "former — ü\n"
    assert os.listdir(path.parent) == ["README.md"]


def test_json_comes_back_equal_and_readable(tmp_path):
    data = {"name": "Bücher", "mrr": 0.97, "missing": None, "rows": [1, 2]}
    write_json(tmp_path / "report.json", data)
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert json.loads(text) == data
    assert "Bücher" in text
    assert text.endswith("}\n")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_with_a_number_that_json_has_not_is_refused_and_the_former_file_kept(tmp_path, number):
    write_json(tmp_path / "report.json", {"loss": 1})
    with pytest.raises(ValueError, match=r"report\.json.*None"):
        write_json(tmp_path / "report.json", {"loss": number})
    assert json.loads((tmp_path / "report.json").read_text()) == {"loss": 1}


# --- checkpoints --------------------------------------------------------------------------------------------------


@pytest.mark.promise(2)
def test_a_checkpoint_is_incomplete_until_its_block_has_ended(tmp_path):
    former = make_checkpoint(tmp_path, 5)
    with checkpoint_in_progress(tmp_path / "checkpoint-10"):
        (tmp_path / "checkpoint-10" / "trainer_state.json").write_text("{}")
        assert last_complete_checkpoint(tmp_path) == str(former)
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
    assert sorted(os.listdir(tmp_path / "checkpoint-10")) == [MANIFEST_FILE, "trainer_state.json"]


@pytest.mark.promise(9)
def test_a_disk_that_fills_up_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path):
    former = make_checkpoint(tmp_path, 5)
    before = contents(tmp_path)

    def write_checkpoint(folder):
        with checkpoint_in_progress(folder):
            (folder / "trainer_state.json").write_text("{}")
            with disk_that_fills_up(after=1000):
                torch.save(torch.zeros(10_000), folder / "optimizer.pt")

    said = r"full: .*checkpoint-10 could not.* Writing optimizer.pt failed .* the checkpoint before it, .*checkpoint-5"
    with pytest.raises(OSError, match=said):
        write_checkpoint(tmp_path / "checkpoint-10")
    assert contents(tmp_path) == before
    assert last_complete_checkpoint(tmp_path) == str(former)


def test_a_checkpoint_that_was_being_replaced_comes_back_if_the_new_one_fails(tmp_path):
    folder = make_checkpoint(tmp_path, 10)
    before = contents(tmp_path)
    with pytest.raises(KeyboardInterrupt), checkpoint_in_progress(folder):
        raise KeyboardInterrupt
    assert contents(tmp_path) == before
    with checkpoint_in_progress(folder):
        assert os.listdir(folder) == [INCOMPLETE_MARKER]
        (folder / "trainer_state.json").write_text("new")
    assert contents(tmp_path).keys() == {"checkpoint-10/trainer_state.json", f"checkpoint-10/{MANIFEST_FILE}"}
    assert contents(tmp_path)["checkpoint-10/trainer_state.json"] == b"new"


@pytest.fixture
def synced(monkeypatch):
    """Paths that have reached the disk so far."""
    paths, fsync = [], os.fsync

    def record(descriptor):
        paths.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    return paths


@pytest.mark.promise(2)
def test_all_of_a_checkpoint_is_on_the_disk_before_its_marker_goes(tmp_path, synced, monkeypatch):
    folder, before_the_marker_went = tmp_path / "checkpoint-10", []
    unlink = Path.unlink

    def record(path, *arguments, **named):
        if path.name == INCOMPLETE_MARKER:
            before_the_marker_went.extend(synced)
        unlink(path, *arguments, **named)

    monkeypatch.setattr(Path, "unlink", record)
    names = ["optimizer.pt", "rng_state.pth", "trainer_state.json", "global_step10/mp_rank_00_model_states.pt"]
    with checkpoint_in_progress(folder):
        (folder / "global_step10").mkdir()
        for name in names:
            (folder / name).write_text(name)
        synced.clear()
    written = {str(folder / name) for name in ["", "global_step10", *names]} | {str(tmp_path)}
    assert {path.rstrip("/") for path in written} <= set(before_the_marker_went)
    # The manifest is synced under its temporary name, and the folder when it has got its own.
    assert any(path.endswith(MANIFEST_FILE) for path in before_the_marker_went)
    assert synced[-1] == str(folder)


@pytest.mark.promise(2)
def test_a_replaced_file_s_name_is_on_the_disk_too(tmp_path, synced):
    write_text(tmp_path / "report.md", "text")
    assert synced[-1] == str(tmp_path)
    with replace_files(tmp_path / "student") as staging:
        (staging / "config.json").write_text("{}")
    assert synced[-1] == str(tmp_path)


def test_of_several_checkpoints_the_newest_by_step_and_the_best_stay(tmp_path):
    for step in (12, 9, 100, 3):  # written in another order
        make_checkpoint(tmp_path, step)
    rotate_checkpoints(tmp_path, None, None)
    assert len(os.listdir(tmp_path)) == 4
    rotate_checkpoints(tmp_path, 3, str(tmp_path / "checkpoint-3"))
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-100", "checkpoint-12", "checkpoint-3"]
    rotate_checkpoints(tmp_path, 1, str(tmp_path / "checkpoint-3"))
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-100", "checkpoint-3"]
    rotate_checkpoints(tmp_path, 1, None)
    assert os.listdir(tmp_path) == ["checkpoint-100"]


def test_every_rank_waits_for_the_marker_and_the_marker_for_every_rank(tmp_path):
    folder = tmp_path / "checkpoint-3"
    seen = []

    def barrier():
        seen.append((folder / INCOMPLETE_MARKER).exists())

    with checkpoint_in_progress(folder, wait_for_everyone=barrier):
        (folder / "trainer_state.json").write_text("{}")
    assert seen == [True, True]
    assert last_complete_checkpoint(tmp_path) == str(folder)


def test_a_rank_that_does_not_write_makes_and_removes_nothing(tmp_path):
    folder = make_checkpoint(tmp_path, 3, complete=False)
    before = contents(tmp_path)
    with checkpoint_in_progress(folder, is_writer=False):
        pass
    with pytest.raises(OSError, match="no space"), checkpoint_in_progress(folder, is_writer=False):
        raise OSError("no space")
    assert contents(tmp_path) == before


def test_a_checkpoint_whose_other_ranks_never_arrive_is_not_complete(tmp_path):
    calls = []

    def barrier():
        calls.append(None)
        if len(calls) == 2:
            raise RuntimeError("Connection closed by peer")

    with (
        pytest.raises(RuntimeError, match="closed by peer"),
        checkpoint_in_progress(tmp_path / "checkpoint-3", wait_for_everyone=barrier),
    ):
        (tmp_path / "checkpoint-3" / "trainer_state.json").write_text("{}")
    assert last_complete_checkpoint(tmp_path) is None
    assert os.listdir(tmp_path) == []


def test_the_last_complete_checkpoint_is_the_one_transformers_would_take_unless_it_is_half_written(tmp_path):
    assert last_complete_checkpoint(tmp_path / "nothing here") is None
    assert last_complete_checkpoint(tmp_path) is None
    make_checkpoint(tmp_path, 9)
    make_checkpoint(tmp_path, 10)
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "checkpoint-99").write_text("a file")
    assert last_complete_checkpoint(tmp_path) == get_last_checkpoint(str(tmp_path)) == str(tmp_path / "checkpoint-10")
    make_checkpoint(tmp_path, 11, complete=False)
    (tmp_path / "checkpoint-12").mkdir()  # no trainer state
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")


def test_what_a_kill_left_behind_is_removed_and_only_that(tmp_path):
    kept = make_checkpoint(tmp_path, 5)
    (tmp_path / "checkpoint-6").mkdir()  # without a trainer state, but also without the marker: not ours to remove
    make_checkpoint(tmp_path, 10)
    killed_in(checkpoint_in_progress(tmp_path / "checkpoint-10"))
    killed_in(checkpoint_in_progress(tmp_path / "checkpoint-15"))
    killed_in(replace_files(tmp_path))
    assert len(os.listdir(tmp_path)) == 6
    assert last_complete_checkpoint(tmp_path) == str(kept)
    remove_incomplete_checkpoints(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-10", "checkpoint-5", "checkpoint-6"]
    # The checkpoint 10 that was about to be replaced is back.
    assert contents(tmp_path)["checkpoint-10/trainer_state.json"] == b'{"global_step": 10}'
    before = contents(tmp_path)
    remove_incomplete_checkpoints(tmp_path)
    assert contents(tmp_path) == before
