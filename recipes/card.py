"""Facts of a report for the model card."""

from collections.abc import Mapping
from typing import Any

from ..evaluation.report import Report, markdown_table


def report_facts(report: Report) -> Mapping[str, Any]:
    """Fields of `CardFacts` from a report."""
    return {
        "summary": f"{report.title}.",
        "results": markdown_table(report),
        "measured": report.measured,
        "scores": dict(report.student.quality),
        "test_set": report.test_set,
    }
