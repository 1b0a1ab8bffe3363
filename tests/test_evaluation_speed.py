"""Speeds, with a clock that the test turns."""

import platform

import pytest
import tiny
import torch

from retort.evaluation import compare_speed, describe_machine
from retort.evaluation.report import ModelRow, Quality, Role, build_report


class Clock:
    """Time that passes only while an encoder works: `seconds` per call and per text."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        self.calls = []
        monkeypatch.setattr("time.perf_counter", lambda: self.now)

    def encoder(self, name, per_call, per_text, slow_from=float("inf")):
        def encode(texts):
            self.calls.append((name, tuple(texts)))
            # A machine that becomes ten times slower at some moment, for all that runs on it.
            load = 10 if self.now >= slow_from else 1
            self.now += load * (per_call + per_text * len(texts))

        return encode


def test_speeds_are_sentences_per_second_in_batches_and_milliseconds_alone(monkeypatch):
    clock = Clock(monkeypatch)
    encoders = {"teacher": clock.encoder("teacher", 0.02, 0.01), "student": clock.encoder("student", 0.01, 0.0025)}
    speeds = compare_speed(encoders, [str(i) for i in range(8)], batch_size=8, rounds=3)
    assert speeds["teacher"].sentences_per_second == pytest.approx(8 / 0.1)
    assert speeds["student"].sentences_per_second == pytest.approx(8 / 0.03)
    assert speeds["teacher"].milliseconds == pytest.approx(30)
    assert speeds["student"].milliseconds == pytest.approx(12.5)
    assert (speeds["teacher"].speedup, speeds["teacher"].latency_speedup) == (1, 1)
    assert speeds["student"].speedup == pytest.approx(0.1 / 0.03)
    assert speeds["student"].latency_speedup == pytest.approx(30 / 12.5)


def test_a_machine_that_slows_down_in_the_middle_of_a_round_does_not_change_the_ratio(monkeypatch):
    clock = Clock(monkeypatch)
    # A round takes the teacher 0.4 + 0.15 seconds and the student half of it. The load comes after warm-up and one
    # round, when the teacher has done its part of the second, so medians over rounds of each model's own times are 1x
    # the teacher's and 10x the student's: 12.5 and 62.5 milliseconds, of which neither is twice the other.
    load_from = 2 * 0.825 + 0.55 - 1e-9
    encoders = {
        "teacher": clock.encoder("teacher", 0, 0.0125, slow_from=load_from),
        "student": clock.encoder("student", 0, 0.00625, slow_from=load_from),
    }
    speeds = compare_speed(encoders, ["x"] * 8, batch_size=8, batches=4, singles=12, rounds=3)
    assert speeds["teacher"].milliseconds == pytest.approx(12.5)
    assert speeds["student"].milliseconds == pytest.approx(6.25)
    assert speeds["student"].sentences_per_second == pytest.approx(2 * speeds["teacher"].sentences_per_second)
    assert speeds["student"].speedup == pytest.approx(2)
    assert speeds["student"].latency_speedup == pytest.approx(2)


def test_models_of_one_architecture_are_timed_once(monkeypatch):
    """As a student before and after its training; what is exported runs otherwise."""
    clock, student = Clock(monkeypatch), tiny.model(layers=2)
    roles = {"teacher": Role.TEACHER, "untrained": Role.UNTRAINED, "student": Role.STUDENT, "onnx": Role.EXPORTED}
    models = {name: tiny.model(layers=4) if name == "teacher" else student for name in roles}
    rows = [ModelRow.of(name, role, models[name], Quality({"f1": 0.5})) for name, role in roles.items()]
    encoders = {name: clock.encoder(name, 0, seconds) for seconds, name in zip((4, 2, 3, 1), roles, strict=True)}
    speeds = {row.name: row.speed for row in build_report(rows, encoders, ["x"] * 4, [], measured="").rows}
    assert speeds["untrained"] == speeds["student"]
    assert {name for name, _ in clock.calls} == {"teacher", "untrained", "onnx"}
    assert [speeds[name].speedup for name in roles] == pytest.approx([1, 2, 2, 4])


def test_rounds_are_interleaved_start_in_turn_and_use_the_same_texts(monkeypatch):
    clock = Clock(monkeypatch)
    encoders = {name: clock.encoder(name, 1, 0) for name in "abc"}
    texts = [str(i) for i in range(5)]
    compare_speed(encoders, texts, batch_size=4, batches=2, singles=2, rounds=3)
    per_model = 4
    order = [name for name, _ in clock.calls[::per_model]]
    assert "".join(order) == "abc" + "bca" + "cab" + "abc"
    seen = {name: [texts for who, texts in clock.calls if who == name] for name in "abc"}
    assert seen["a"] == seen["b"] == seen["c"]
    assert seen["a"][:per_model] == [("0", "1", "2", "3"), ("4", "0", "1", "2"), ("0",), ("1",)]


def test_a_gpu_is_waited_for_before_the_clock_is_read(monkeypatch):
    events = []
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    monkeypatch.setattr("torch.accelerator.synchronize", lambda: events.append("wait"))
    monkeypatch.setattr("time.perf_counter", lambda: events.append("clock") or float(len(events)))
    compare_speed({"a": lambda texts: events.append("work")}, ["x"], batch_size=1, batches=1, singles=1, rounds=1)
    assert events == ["wait", "clock", "work", "wait", "clock"] * 4


def test_comparing_nothing_is_an_error():
    with pytest.raises(ValueError, match="got 0 and 32"):
        compare_speed({}, ["x"] * 32)
    with pytest.raises(ValueError, match="one text, but got 1 and 0"):
        compare_speed({"a": len}, [])


def test_the_machine_is_described_by_processor_threads_and_versions(monkeypatch):
    assert f"1 thread, torch {torch.__version__}, Python {platform.python_version()}" in describe_machine()
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: f"GPU {device.index}")
    assert describe_machine("cuda:1").startswith("GPU 1, torch")
