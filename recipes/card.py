"""What a report tells the model card."""

from collections.abc import Mapping
from typing import Any

from ..evaluation.report import Report, markdown_table


def report_facts(report: Report) -> Mapping[str, Any]:
    """The fields of `CardFacts` that a report fills."""
    return {
        "summary": f"{report.title}.",
        "results": markdown_table(report),
        "measured": report.measured,
        "scores": dict(report.student.quality),
        "test_set": report.test_set,
    }
