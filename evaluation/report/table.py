"""A report as a table: a few models side by side, one column each; more of them one below the other, a line each."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .report import ModelRow, Report, millions, number

MISSING = "-"

# With more models than this, columns of their names would be wider than a terminal.
MOST_SIDE_BY_SIDE = 4

# Letters of a heading in one line, unless a column is wider than that anyway.
NARROW = 7


class _Measure(NamedTuple):
    """Something to tell of every model.

    Attributes:
        label: what it is called.
        heading: the same in fewer letters, for the head of a narrow column.
        values: one for each model, as they are to be printed.
    """

    label: str
    heading: str
    values: list[str]


def text_table(report: Report) -> str:
    """The title, an aligned table of at most some 110 columns and how it was measured, as plain text."""
    measures = _measures(report)
    if _is_side_by_side(report):
        head, *body = aligned(_cells(report, measures), gap=3)
        heads = [head]
    else:
        columns = [_wrapped(measure) for measure in measures]
        height = max(map(len, columns))
        heading = [["", *line] for line in zip(*([""] * (height - len(c)) + c for c in columns), strict=True)]
        lines = aligned([*heading, *_cells(report, measures)[1:]], gap=2)
        heads, body = lines[:height], lines[height:]
    rule = "-" * len(heads[0])
    measured = textwrap.fill(report.measured, max(len(rule), 72))
    return "\n".join([report.title, "", *heads, rule, *body, "", measured]).rstrip()


def markdown_table(report: Report) -> str:
    """The table in GitHub's Markdown, without title."""
    # A pipe would end a cell.
    head, *body = [[cell.replace("|", r"\|") for cell in cells] for cells in _cells(report, _measures(report))]
    alignment = [":---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, alignment, *body))


def aligned(table: Sequence[Sequence[str]], gap: int) -> list[str]:
    """The lines of a table: its first column aligned at the left, the others at the right, `gap` spaces apart."""
    first, *others = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [(" " * gap).join([cells[0].ljust(first), *map(str.rjust, cells[1:], others)]) for cells in table]


def _is_side_by_side(report: Report) -> bool:
    return len(report.rows) <= MOST_SIDE_BY_SIDE


def _cells(report: Report, measures: list[_Measure]) -> list[list[str]]:
    """Head and body of the table, with a line for each measure or, of many models, for each model."""
    table = [["", *(row.name for row in report.rows)], *([measure.label, *measure.values] for measure in measures)]
    return table if _is_side_by_side(report) else [list(line) for line in zip(*table, strict=True)]


def _wrapped(measure: _Measure) -> list[str]:
    width = max(NARROW, *map(len, measure.values))
    return textwrap.wrap(measure.heading, width, break_long_words=False, break_on_hyphens=False)


def _measures(report: Report) -> list[_Measure]:
    """All there is to tell, without what no model has a value for."""

    def measure(label: str, show: Callable[[ModelRow], str | None], heading: str | None = None) -> _Measure:
        return _Measure(label, heading or label, [show(row) or MISSING for row in report.rows])

    measures = [measure("layers", lambda row: row.layers and str(row.layers))]
    for metric in dict.fromkeys([report.metric, *(metric for row in report.rows for metric in row.quality)]):
        measures.append(measure(metric, lambda row, m=metric: number(row.quality[m]) if m in row.quality else None))
        if metric == report.metric:
            measures.append(measure(f"{metric}, % of teacher", lambda row: _share(row, report), "% of teacher"))
    measures += [
        measure("parameters", lambda row: millions(row.footprint.parameters), "params"),
        measure(
            "outside embeddings", lambda row: millions(row.footprint.parameters_without_embeddings), "outside embed."
        ),
        measure("fewer parameters", lambda row: _compression(row, report), "fewer params"),
        measure("megabytes", lambda row: f"{row.footprint.megabytes:.1f}", "MB"),
        measure("sentences/s", lambda row: row.speed and f"{row.speed.sentences_per_second:,.0f}", "sent./s"),
        measure("speed-up", lambda row: row.speed and f"{row.speed.speedup:.2f}x", "speed up"),
        measure("ms for one sentence", lambda row: row.speed and f"{row.speed.milliseconds:.1f}", "ms for one"),
        measure(
            "speed-up, one sentence", lambda row: row.speed and f"{row.speed.latency_speedup:.2f}x", "speed up, one"
        ),
    ]
    return [measure for measure in measures if set(measure.values) != {MISSING}]


def _share(row: ModelRow, report: Report) -> str | None:
    share = report.kept(row)
    return None if share is None else f"{100 * share:.1f}"


def _compression(row: ModelRow, report: Report) -> str | None:
    """How many times fewer parameters than the teacher's."""
    if report.teacher is None:
        return None
    return f"{report.teacher.footprint.parameters / row.footprint.parameters:.1f}x"
