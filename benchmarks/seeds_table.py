"""Scores of several ways of doing something, each with several seeds, as a table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from retort.evaluation.report_table import aligned


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
