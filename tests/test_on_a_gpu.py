"""benchmarks/on_a_gpu runs to its end on a CPU, and tells what fails."""

import json
from pathlib import Path

from scripts import run_script

GPU = Path(__file__).parents[1] / "benchmarks/on_a_gpu/__main__.py"
RUNS = ["target", "target, no workers", *(f"{kind}, {whose} {turn}" for kind in ("mixed", "short") for turn in (1, 2)
        for whose in ("sentence-transformers", "retort", "retort, live teacher"))]  # fmt: skip


def test_the_benchmark_for_gpus_runs_on_a_cpu(tmp_path):
    printed = run_script(GPU, "--tiny", "--json", tmp_path / "found")
    assert "All requirements are met." in printed
    lines = [json.loads(line) for line in (tmp_path / "found").read_text().splitlines()]
    timed = {line["what"]: line for line in lines if "ms" in line}
    assert timed.keys() >= set(RUNS)
    assert all(line["ms"] > 0 for line in timed.values())
    held = [line["what"] for line in lines if line.get("passes")]
    assert [what.split(":")[0] for what in held[-4:]] == ["torchrun", "accelerate", "zero2", "zero3"]
    assert "weights differ by 0.0e+00" in " ".join(held)
