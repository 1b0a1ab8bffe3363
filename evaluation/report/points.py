"""The points of a report's figure: one per model, with quality on the vertical axis, and size or speed on the other.

A few models have their names next to their points. More models are numbered, with their names below the panel.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from .label_placement import Label, write_labels
from .report import ModelRow, Report, Role, percent
from .style import DPI, FAINT, INK, PALETTE, number_log_axis

Point = tuple[float, float]

# With more models than this, names beside points would cover each other.
MOST_NAMED = 4
# In typographic points.
MARKER = 11
# Height of a line and average width of a letter in the key, in inches.
KEY_LINE, KEY_LETTER = 0.27, 0.105
# If the ratio of values is larger than this, the axis is logarithmic.
WIDEST_LINEAR = 10


def draw_models(axes: Axes, report: Report, values: Sequence[float | None]) -> None:
    """One point per model that has a value: the value on the horizontal axis, the report's metric on the vertical."""
    points = {
        index: (value, row.quality[report.metric])
        for index, (row, value) in enumerate(zip(report.rows, values, strict=True))
        if value
    }
    _scale_right(axes, [x for x, _ in points.values()], report)
    ends = [end for row in report.rows for end in row.intervals.get(report.metric, ())]
    axes.set_ylim(*_limits([row.quality[report.metric] for row in report.rows] + ends))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if report.teacher:
        axes.axhline(report.teacher.quality[report.metric], color=INK, linewidth=0.8, linestyle=(0, (1, 4)))
    before, after, kept_free = None, None, []
    for index, point in points.items():
        row = report.rows[index]
        color = _color(row, report)
        if interval := row.intervals.get(report.metric):
            axes.vlines(point[0], *interval, color=color, linewidth=1.2, alpha=0.6, zorder=2)
            kept_free += [(point[0], height) for height in np.linspace(*interval, 9)]
        fill = "white" if row.role == Role.UNTRAINED else color
        # The report's student is drawn on top.
        order = 4 if row is report.student else 3
        shape = {"markersize": MARKER, "markeredgewidth": 2, "markeredgecolor": color, "markerfacecolor": fill}
        axes.plot(*point, "o", **shape, zorder=order)
        before = point if row.role == Role.UNTRAINED else before
        after = point if row is report.student else after
    if before and after:
        kept_free += [tuple(place) for place in _draw_arrow(axes, before, after)]
    write_labels(axes, _labels(axes, report, points), avoid=kept_free)


def key_height(report: Report, width: float) -> float:
    """Height in inches of the names below the points on a page of `width` inches; 0 if there are none."""
    if _names_fit(report):
        return 0
    return KEY_LINE * (math.ceil(len(report.rows) / _key_columns(report, width)) + 1)


def write_key(figure: Figure, report: Report, left: float, top: float) -> None:
    """Write the number and name of every model. `left` and `top` are in inches."""
    width, height = figure.get_size_inches()
    columns = _key_columns(report, width)
    lines = math.ceil(len(report.rows) / columns)
    for index, row in enumerate(report.rows):
        column, line = divmod(index, lines)
        x, y = left + column * (width - 1.5 * left) / columns, top + line * KEY_LINE
        color = _color(row, report)
        place = {"va": "top", "color": color}
        figure.text(x / width, 1 - y / height, str(index + 1), ha="right", fontweight="bold", **place)
        figure.text((x + KEY_LETTER) / width, 1 - y / height, _describe(row, report, "  "), **place)


def _names_fit(report: Report) -> bool:
    return len(report.rows) <= MOST_NAMED


def _key_columns(report: Report, width: float) -> int:
    longest = max(len(_describe(row, report, "  ")) for row in report.rows) + 4
    return max(1, int(width / (KEY_LETTER * longest)))


def _labels(axes: Axes, report: Report, points: Mapping[int, Point]) -> list[Label]:
    rows = report.rows
    if _names_fit(report):
        return [Label(*p, _describe(rows[i], report, "\n"), _color(rows[i], report)) for i, p in points.items()]
    labels = []
    for group in _overlapping(axes, points):
        # A label with several numbers has the color of the topmost model.
        top = next((index for index in group if rows[index] is report.student), group[-1])
        text = ", ".join(str(index + 1) for index in group)
        labels.append(Label(*points[top], text, _color(rows[top], report)))
    return labels


def _overlapping(axes: Axes, points: Mapping[int, Point]) -> list[list[int]]:
    """Indices of points, in groups whose markers overlap."""
    groups: list[list[int]] = []
    places = {index: axes.transData.transform(point) for index, point in points.items()}
    for index, place in places.items():
        near = (g for g in groups if np.linalg.norm(places[g[0]] - place) < MARKER / 2 * DPI / 72)
        if (group := next(near, None)) is None:
            groups.append(group := [])
        group.append(index)
    return groups


def _scale_right(axes: Axes, values: list[float], report: Report) -> None:
    if _names_fit(report) or max(values) < WIDEST_LINEAR * min(values):
        axes.set_xlim(0, 1.3 * max(values))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        return
    axes.set(xscale="log", xlim=(min(values) / 1.6, 1.6 * max(values)))
    wide = max(values) > 500 * min(values)
    number_log_axis(axes.xaxis, LogLocator(subs=(1,) if wide else (1, 3)))


def _draw_arrow(axes: Axes, start: Point, end: Point) -> np.ndarray:
    """Draw an arrow from untrained to trained student. Returns points along it, `[points, 2]`; none if it is too
    short."""
    if np.linalg.norm(np.subtract(*axes.transData.transform([start, end]))) < 40 * DPI / 72:
        return np.empty((0, 2))
    arrow = {"arrowstyle": "-|>", "color": PALETTE[0], "linewidth": 1.6, "shrinkA": 8, "shrinkB": 8}
    axes.annotate("", xy=end, xytext=start, arrowprops=arrow | {"mutation_scale": 14})
    return np.linspace(start, end, 15)


def _describe(row: ModelRow, report: Report, separator: str) -> str:
    share = report.share_of_teacher(row)
    compared = "" if share is None or row is report.teacher else f" ({percent(share)})"
    return f"{row.name}{separator}{report.written(row)}{compared}"


def _color(row: ModelRow, report: Report) -> str:
    """The report's student is colored, the teacher is dark, and all others are grey."""
    return PALETTE[0] if row is report.student else INK if row.role == Role.TEACHER else FAINT


def _limits(values: list[float]) -> Point:
    """Limits of an axis with room for labels above and below. They are at least a tenth of the largest value apart."""
    low, high = min(values), max(values)
    reach = max(high - low, 0.1 * max(abs(low), abs(high)), 1e-3)
    middle = (low + high) / 2
    return middle - 0.85 * reach, middle + 0.85 * reach
