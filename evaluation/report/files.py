"""A report on disk: `report.json` and `report.png`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from .figure import draw
from .report import Report

# Names that begin with an underscore are not pushed to the Hub, should a kill leave one behind.
TEMPORARY_PREFIX = "_incomplete-"


def write_report(report: Report, folder: str | os.PathLike) -> None:
    """Write `report.json` (all numbers, and the title) and `report.png` into `folder`, which is made if need be.

    Each file appears whole or not at all, and replaces an older one only when it is whole.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = {"title": report.title} | asdict(report)
    with _replacing(folder / "report.json") as path:
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    with _replacing(folder / "report.png") as path:
        draw(report).savefig(path, format="png")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path next to `path`; it takes that name if the block ends well, and goes if it does not."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
