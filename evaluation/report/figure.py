"""The figure of a report: quality against size and speed, and losses and scores over the steps of training.

All points and lines are labelled, with numbers if there are many. No information is given by color only.
"""

import textwrap

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .curves import dev_losses, dev_scores, draw_dev, draw_losses
from .points import draw_models, key_height, write_key
from .report import Report
from .style import DPI, FAINT, STYLE

# The page, in inches.
WIDTH = 12.0
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_BOTTOM = 0.95, 0.35, 0.75
HEADING, HEADING_LINE = 1.25, 0.25
POINTS_HEIGHT, BETWEEN, CURVES_HEIGHT = 3.9, 1.25, 2.1
GUTTER, CURVE_LABELS = 0.55, 2.5


def draw(report: Report) -> Figure:
    """Draw a report, 1800 pixels wide. Panels without data are left out."""
    # Uses matplotlib's defaults, since the user's settings could break the layout.
    with style.context(["default", STYLE]):
        measured = textwrap.wrap(report.measured, 132)
        heading = HEADING + HEADING_LINE * len(measured)
        key = key_height(report, WIDTH)
        models = POINTS_HEIGHT + key
        curves = [draw_losses] if report.losses or dev_losses(report) else []
        curves += [draw_dev] if dev_scores(report) else []
        height = heading + models + (BETWEEN + CURVES_HEIGHT) * len(curves) + MARGIN_BOTTOM
        figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)
        _write_heading(figure, report.title, measured)
        panels = {"←  megabytes": [row.footprint.megabytes for row in report.rows]}
        if any(row.speed for row in report.rows):
            speeds = [row.speed and row.speed.sentences_per_second for row in report.rows]
            panels["sentences per second  →"] = speeds
        width = (WIDTH - MARGIN_LEFT - MARGIN_RIGHT + GUTTER) / len(panels) - GUTTER
        for column, (name, values) in enumerate(panels.items()):
            axes = _add_axes(figure, MARGIN_LEFT + column * (width + GUTTER), heading, width, POINTS_HEIGHT)
            draw_models(axes, report, values)
            axes.set(xlabel=name, title="" if column else f"↑  {_metric_and_set(report)}")
            axes.tick_params(labelleft=column == 0)
        if key:
            write_key(figure, report, left=MARGIN_LEFT, top=heading + POINTS_HEIGHT + MARGIN_BOTTOM)
        for row, draw_curves in enumerate(curves):
            width = WIDTH - MARGIN_LEFT - MARGIN_RIGHT - CURVE_LABELS
            top = heading + models + BETWEEN + row * (CURVES_HEIGHT + BETWEEN)
            draw_curves(_add_axes(figure, MARGIN_LEFT, top, width, CURVES_HEIGHT), report)
    return figure


def _add_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in inches from the upper left corner."""
    page_width, page_height = figure.get_size_inches()
    return figure.add_axes(
        (left / page_width, 1 - (top + height) / page_height, width / page_width, height / page_height)
    )


def _write_heading(figure: Figure, title: str, measured: list[str]) -> None:
    height = figure.get_size_inches()[1]
    left = 0.35 / WIDTH
    words = figure.text(left, 1 - 0.35 / height, title, fontsize=20, fontweight="bold", va="top")
    room = (1 - 2 * left) * WIDTH * DPI
    words.set_fontsize(20 * min(1, room / words.get_window_extent().width))
    figure.text(left, 1 - 0.83 / height, "\n".join(measured), color=FAINT, fontsize=11, va="top", linespacing=1.4)


def _metric_and_set(report: Report) -> str:
    """Label of the vertical axis: the metric and the test data."""
    intervals = any(report.metric in row.intervals for row in report.rows)
    on = f" on {report.test_set}" if report.test_set else ""
    return f"{report.metric}{on}{'; lines: 95 % intervals' if intervals else ''}"
