"""A report on disk: `report.json` and `report.png`."""

import os
from dataclasses import asdict

from ...data import replace_files, write_json
from .figure import draw
from .report import Report


def write_report(report: Report, folder: str | os.PathLike) -> None:
    """Write `report.json` (all numbers, and the title) and `report.png` into `folder`, which is made if need be.

    Both appear whole or not at all, and replace older ones only when both are whole.
    """
    with replace_files(folder) as staging:
        write_json(staging / "report.json", {"title": report.title} | asdict(report))
        draw(report).savefig(staging / "report.png", format="png")
