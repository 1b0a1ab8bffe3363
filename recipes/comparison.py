"""Benchmarks that vary a recipe: each of several ways, with each of several seeds."""

import argparse
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers

from ..data import write_json
from ..evaluation.cost import describe_machine
from ..evaluation.report import aligned
from ..trainers.stages import Stage


def comparison_parser(description: str, ways: Iterable[str], *, flag: str = "--variants") -> argparse.ArgumentParser:
    """A command line that takes a recipe, and which ways and seeds to try; leaves the terminal to the scores.

    Args:
        description: of the benchmark.
        ways: their names.
        flag: what chooses among them.
    """
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a YAML file such as the one above")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="a student each (default: 0 1 2)")
    parser.add_argument(flag, nargs="+", choices=list(ways), default=list(ways), help="(default: all)")
    parser.add_argument("--scale", type=float, default=1.0, help="of every student's epochs, for a quicker look")
    parser.add_argument("--output_dir", help="where to write (default: told at the end)")
    return parser


def with_teacher_cache(stage: Stage, folder: Path) -> Stage:
    """The stage, reading the teacher's outputs from a folder that it shares with all that need the same."""
    return replace(stage, cache_teacher=False, arguments={**stage.arguments, "teacher_cache": str(folder)})


def in_words(scores: Mapping[str, float]) -> str:
    """Scores on one line."""
    return " ".join(f"{name} {value:.4f}" for name, value in scores.items())


def write_comparison(
    runs: Sequence[dict[str, Any]],
    reference: tuple[str, Mapping[str, float]],
    output: Path,
    options: argparse.Namespace,
    metrics: Sequence[str] = (),
) -> None:
    """Write all numbers down with what they depend on, and print a table of each metric: seeds, mean and spread.

    Args:
        runs: of each `strategy`, `steps` and `test` (metric -> score).
        reference: the name of what runs are compared with, and its scores.
        output: a JSON file.
        options: of the command line.
        metrics: those to print a table of; by default, the first.
    """
    name, theirs = reference
    measured = {"machine": describe_machine(), "threads": torch.get_num_threads(), "settings": vars(options)}
    write_json(output, measured | {name: dict(theirs), "runs": runs})
    for metric in metrics or [next(iter(theirs))]:
        lines = [[f"test {metric}", "steps", "of each seed", "mean", "standard deviation", f"of {name}"]]
        for strategy in dict.fromkeys(run["strategy"] for run in runs):
            own = [run for run in runs if run["strategy"] == strategy]
            scores = [run["test"][metric] for run in own]
            mean = statistics.mean(scores)
            spread = f"{statistics.stdev(scores):.4f}" if len(scores) > 1 else "-"
            share = f"{mean / theirs[metric]:.1%}" if theirs[metric] else "-"
            each = " ".join(f"{score:.4f}" for score in scores)
            lines.append([strategy, f"{own[0]['steps']:,}", each, f"{mean:.4f}", spread, share])
        print("\n" + "\n".join(aligned([*lines, [name, "", "", f"{theirs[metric]:.4f}", "", ""]], gap=2)))
    print(f"\nAll numbers: {output}")
