"""Scores of several ways of doing something, each with several seeds, as a table and as JSON."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from retort.evaluation import describe_machine
from retort.evaluation.report_table import aligned
from retort.trainers.storage import write_json


def tell(
    runs: Sequence[dict[str, Any]],
    reference: tuple[str, Mapping[str, float]],
    output: Path,
    options: argparse.Namespace,
    metrics: Sequence[str] = (),
) -> None:
    """Print the tables, and write all numbers down with what they depend on.

    Args:
        runs: as for `seeds_table`.
        reference: its name, and its scores.
        output: a JSON file.
        options: of the command line.
        metrics: those to print a table of; by default, the first.
    """
    name, scores = reference
    for metric in metrics or [next(iter(scores))]:
        print(f"\n{seeds_table(runs, metric, (name, scores[metric]))}")
    print(f"\nAll numbers: {output}")
    measured = {"machine": describe_machine(), "threads": torch.get_num_threads(), "settings": vars(options)}
    write_json(output, measured | {name: dict(scores), "runs": runs})


def seeds_table(runs: Sequence[dict[str, Any]], metric: str, reference: tuple[str, float]) -> str:
    """Each seed's score, their mean and spread, and how much of a reference's score that is.

    Args:
        runs: of each `strategy`, `steps` and `test` (metric -> score).
        metric: which is shown.
        reference: its name, and its score.
    """
    name, theirs = reference
    lines = [[f"test {metric}", "steps", "of each seed", "mean", "standard deviation", f"of {name}"]]
    for strategy in dict.fromkeys(each["strategy"] for each in runs):
        own = [each for each in runs if each["strategy"] == strategy]
        scores = [each["test"][metric] for each in own]
        spread = f"{statistics.stdev(scores):.4f}" if len(scores) > 1 else "-"
        mean = statistics.mean(scores)
        each = " ".join(f"{score:.4f}" for score in scores)
        lines.append([strategy, f"{own[0]['steps']:,}", each, f"{mean:.4f}", spread, f"{mean / theirs:.1%}"])
    return "\n".join(aligned([*lines, [name, "", "", f"{theirs:.4f}", "", ""]], gap=2))
