"""A report as a table: one column per model, so that it fits a terminal and a model card."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence

from .report import ModelRow, Report, millions, number

MISSING = "-"


def text_table(report: Report) -> str:
    """The title, an aligned table and how it was measured, as plain text."""
    head, *body = aligned(_cells(report), gap=3)
    measured = textwrap.fill(report.measured, max(len(head), 72))
    return "\n".join([report.title, "", head, "-" * len(head), *body, "", measured]).rstrip()


def markdown_table(report: Report) -> str:
    """The table in GitHub's Markdown, without title."""
    # A pipe would end a cell.
    head, *body = [[cell.replace("|", r"\|") for cell in cells] for cells in _cells(report)]
    alignment = [":---", *["---:"] * len(report.rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, alignment, *body))


def aligned(table: Sequence[Sequence[str]], gap: int) -> list[str]:
    """The lines of a table: its first column aligned at the left, the others at the right, `gap` spaces apart."""
    first, *others = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [(" " * gap).join([cells[0].ljust(first), *map(str.rjust, cells[1:], others)]) for cells in table]


def _cells(report: Report) -> list[list[str]]:
    """Head and body of the table, without lines that no model has a value for."""
    lines = [_line("layers", report, lambda row: row.layers and str(row.layers))]
    for metric in dict.fromkeys([report.metric, *(metric for row in report.rows for metric in row.quality)]):
        lines.append(_line(metric, report, lambda row, m=metric: number(row.quality[m]) if m in row.quality else None))
        if metric == report.metric:
            lines.append(_line(f"{metric}, % of teacher", report, lambda row: _share(row, report)))
    lines += [
        _line("parameters", report, lambda row: millions(row.footprint.parameters)),
        _line("outside embeddings", report, lambda row: millions(row.footprint.parameters_without_embeddings)),
        _line("megabytes, float32", report, lambda row: f"{row.footprint.megabytes:.1f}"),
        _line("sentences/s", report, lambda row: row.speed and f"{row.speed.sentences_per_second:,.0f}"),
        _line("speed-up", report, lambda row: row.speed and f"{row.speed.speedup:.2f}x"),
        _line("ms for one sentence", report, lambda row: row.speed and f"{row.speed.milliseconds:.1f}"),
        _line("speed-up, one sentence", report, lambda row: row.speed and f"{row.speed.latency_speedup:.2f}x"),
    ]
    body = [line for line in lines if set(line[1:]) != {MISSING}]
    return [["", *(row.name for row in report.rows)], *body]


def _line(label: str, report: Report, show: Callable[[ModelRow], str | None]) -> list[str]:
    return [label, *(show(row) or MISSING for row in report.rows)]


def _share(row: ModelRow, report: Report) -> str | None:
    share = report.kept(row)
    return None if share is None else f"{100 * share:.1f}"
