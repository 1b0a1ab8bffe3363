"""benchmarks/kill_and_resume on few kills; and that it sees what it looks for."""

import hashlib
import importlib
import random
from itertools import islice
from pathlib import Path

import pytest
from scripts import run_script

KILLS = Path(__file__).parents[1] / "benchmarks" / "kill_and_resume"


@pytest.fixture
def module(monkeypatch):
    """Imports one of its modules."""
    monkeypatch.syspath_prepend(KILLS)
    return importlib.import_module


@pytest.mark.promise(2)
def test_runs_that_were_killed_end_as_those_that_were_not():
    printed = run_script(KILLS, "--kills", 4, "--only", "CKDTrainer, one process")
    kills, runs, equal, nothing_left = next(line for line in printed.splitlines() if line.startswith("all")).split()[1:]
    assert int(kills) >= 4
    assert equal == nothing_left == runs


def test_kills_reach_every_run_before_any_comes_again(module):
    cases = module("cases")
    drawn = list(islice(cases.in_rounds(cases.all_cases(), random.Random(0)), 90))
    runs = {(case.name, case.setup) for case in drawn}
    assert len(runs) == 30  # eight runs under four setups, less two that ZeRO-3 doesn't take
    assert all({(case.name, case.setup) for case in drawn[at : at + 30]} == runs for at in (0, 30, 60))
    assert drawn[:30] != drawn[30:60]


def test_other_weights_a_lost_file_and_a_stray_one_are_seen(module, tmp_path):
    cases = module("cases")
    (tmp_path / "checkpoint-2").mkdir()
    (tmp_path / "checkpoint-2" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "report.json").write_text("of other times")
    case = cases.Case("run", "one process", cases.content(tmp_path))
    assert not cases.Outcome(case).compared(tmp_path).problem
    (tmp_path / "report.json").write_text("and others")
    assert not cases.Outcome(case).compared(tmp_path).problem
    (tmp_path / "_incomplete-0").mkdir()
    assert cases.Outcome(case).compared(tmp_path).left == ["_incomplete-0"]
    (tmp_path / "checkpoint-2" / "model.safetensors").write_bytes(b"others")
    (tmp_path / "report.json").unlink()
    outcome = cases.Outcome(case).compared(tmp_path)
    assert outcome.different == ["checkpoint-2/model.safetensors", "report.json"]
    assert case.expected["checkpoint-2/model.safetensors"] == hashlib.sha256(b"weights").hexdigest()


def test_a_process_is_killed_right_before_the_file_operation_that_was_drawn(module, tmp_path):
    forks, folder = module("forks"), tmp_path / "run"

    def work():
        folder.mkdir()
        for name in "abc":
            (folder / name).write_text(name)
            (folder / name).rename(folder / f"{name}.txt")

    codes, _ = forks.run(work, folder, 1)
    assert codes == [0]
    assert folder.with_suffix(".0.operations").read_text() == "7"
    for path in [*folder.iterdir()]:
        path.unlink()
    folder.rmdir()
    codes, _ = forks.run(work, folder, 1, forks.Kill(operation=5))
    assert codes == [forks.KILLED]
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "b"]
