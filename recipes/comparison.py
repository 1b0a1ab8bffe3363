"""Helpers for benchmarks that compare variants of a recipe over several seeds."""

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
    """A parser for a recipe, variants and seeds. Also silences transformers' log and progress bars.

    Args:
        description: description of the benchmark.
        ways: names of the variants.
        flag: the flag that selects variants.
    """
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a YAML file such as the one above")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one student per seed (default: 0 1 2)")
    parser.add_argument(flag, nargs="+", choices=list(ways), default=list(ways), help="(default: all)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor for every student's epochs, for quick runs")
    parser.add_argument("--output_dir", help="output folder (default: printed at the end)")
    return parser


def with_teacher_cache(stage: Stage, folder: Path) -> Stage:
    """The stage with a teacher cache that it shares with other stages."""
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
    """Write all results with settings and machine, and print a table of each metric: seeds, mean, standard deviation.

    Args:
        runs: dicts with `strategy`, `steps` and `test` (metric -> score).
        reference: name and scores of the model that runs are compared with.
        output: a JSON file.
        options: the command line.
        metrics: metrics to print; by default the first one.
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
