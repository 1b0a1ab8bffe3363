"""The table of a report: one column per model if there are few, one line per model if there are many."""

import textwrap
from collections.abc import Callable, Sequence

from .report import ModelRow, Report, millions

MISSING, SHARE, INTERVAL = "-", "% of teacher", "95 %"

# With more models than this, the columns would be wider than a terminal.
MOST_SIDE_BY_SIDE = 4
# Letters of a heading in one line, unless a column is wider than that anyway.
NARROW = 7

# Labels in fewer letters, for the heads of narrow columns.
HEADINGS = {
    "parameters": "params",
    "outside embeddings": "outside embed.",
    "fewer parameters": "fewer params",
    "megabytes": "MB",
    "sentences/s": "sent./s",
    "speed-up": "speed up",
    "ms for one sentence": "ms for one",
    "speed-up, one sentence": "speed up, one",
}


def text_table(report: Report) -> str:
    """Title, table and description of the evaluation, as plain text. Long names of models make the table wide."""
    cells = _cells(report)
    if _is_side_by_side(report):
        head, *body = aligned(cells, gap=3)
        heads = [head]
    else:
        headings = HEADINGS | {f"{report.metric}, {name}": name for name in (SHARE, INTERVAL)}
        columns = [_wrapped(headings.get(label, label), values) for label, *values in zip(*cells, strict=True)]
        height = max(map(len, columns))
        heading = zip(*([""] * (height - len(column)) + column for column in columns), strict=True)
        lines = aligned([*heading, *cells[1:]], gap=2)
        heads, body = lines[:height], lines[height:]
    rule = "-" * len(heads[0])
    vectors = ["", *aligned(_vector_cells(report), gap=3)] if report.vectors else []
    measured = textwrap.fill(report.measured, max(len(rule), 72))
    return "\n".join([report.title, "", *heads, rule, *body, *vectors, "", measured]).rstrip()


def markdown_table(report: Report) -> str:
    """The table in GitHub's Markdown, without title, and a second one of the student's embeddings if they were measured
    in several sizes and precisions."""
    tables = [_cells(report), *([_vector_cells(report)] if report.vectors else [])]
    return "\n\n".join(map(_markdown, tables))


def _markdown(table: Sequence[Sequence[str]]) -> str:
    # A pipe would end a cell.
    head, *body = [[cell.replace("|", r"\|") for cell in cells] for cells in table]
    alignment = [":---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, alignment, *body))


def aligned(table: Sequence[Sequence[str]], gap: int) -> list[str]:
    """The lines of a table. The first column is left-aligned, the others right-aligned, with `gap` spaces between."""
    first, *others = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [(" " * gap).join([cells[0].ljust(first), *map(str.rjust, cells[1:], others)]) for cells in table]


def _is_side_by_side(report: Report) -> bool:
    return len(report.rows) <= MOST_SIDE_BY_SIDE


def _wrapped(heading: str, values: Sequence[str]) -> list[str]:
    width = max(NARROW, *map(len, values))
    return textwrap.wrap(heading, width, break_long_words=False, break_on_hyphens=False)


def _cells(report: Report) -> list[Sequence[str]]:
    """Header and body of the table, with one line per measure or, for many models, per model.

    Measures without values are left out.
    """
    teacher = report.teacher

    def share(row: ModelRow) -> str | None:
        kept = report.share_of_teacher(row)
        return None if kept is None else f"{100 * kept:.1f}"

    measures: list[tuple[str, Callable[[ModelRow], str | None]]] = [
        ("layers", lambda row: row.layers and str(row.layers)),
    ]
    for metric in dict.fromkeys([report.metric, *(metric for row in report.rows for metric in row.quality)]):
        measures.append((metric, lambda row, m=metric: report.number(m, row.quality[m]) if m in row.quality else None))
        if metric == report.metric or _is_side_by_side(report):
            measures.append((f"{metric}, {INTERVAL}", lambda row, m=metric: _interval(report, row, m)))
        if metric == report.metric:
            measures.append((f"{metric}, {SHARE}", share))
    measures += [
        ("parameters", lambda row: millions(row.footprint.parameters)),
        ("outside embeddings", lambda row: millions(row.footprint.parameters_without_embeddings)),
        ("fewer parameters", lambda row: teacher and f"{teacher.footprint.parameters / row.footprint.parameters:.1f}x"),
        ("megabytes", lambda row: f"{row.footprint.megabytes:.1f}"),
        ("sentences/s", lambda row: row.speed and f"{row.speed.sentences_per_second:,.0f}"),
        ("speed-up", lambda row: row.speed and f"{row.speed.speedup:.2f}x"),
        ("ms for one sentence", lambda row: row.speed and f"{row.speed.milliseconds:.1f}"),
        ("speed-up, one sentence", lambda row: row.speed and f"{row.speed.latency_speedup:.2f}x"),
    ]
    lines = [[label, *(show(row) or MISSING for row in report.rows)] for label, show in measures]
    table = [["", *(row.name for row in report.rows)], *(line for line in lines if set(line[1:]) != {MISSING})]
    return table if _is_side_by_side(report) else list(zip(*table, strict=True))


def _vector_cells(report: Report) -> list[Sequence[str]]:
    """Header and body of the table of embeddings, with one line for each size and precision."""
    metrics = list(report.vectors[0].quality)
    head = ["dimensions", "precision", "MB for a million", *metrics]
    return [head] + [
        [
            str(row.dims),
            row.precision,
            f"{row.megabytes:,}",
            *(report.number(name, row.quality[name]) for name in metrics),
        ]
        for row in report.vectors
    ]


def _interval(report: Report, row: ModelRow, metric: str) -> str | None:
    ends = row.intervals.get(metric)
    return ends and f"[{report.number(metric, ends[0])}, {report.number(metric, ends[1])}]"
