"""A report as a picture: quality against size and against speed, and the losses over time.

Every point and line is labelled where it is, by a number if there are many, and colour tells nothing that words do not.
"""

import math
import textwrap

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import Locator, LogLocator, MaxNLocator

from .label_placement import spread
from .points import draw_models, key_height, write_key
from .report import Report
from .style import DPI, FAINT, HAIRLINE, INK, PALETTE, STYLE, number_log_axis

# The page, in inches.
WIDTH = 12.0
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_BOTTOM = 0.95, 0.35, 0.75
HEADING, HEADING_LINE = 1.25, 0.25
POINTS_HEIGHT, BETWEEN, LOSS_HEIGHT = 3.9, 1.25, 2.1
GUTTER, LOSS_LABELS = 0.55, 2.5


def draw(report: Report) -> Figure:
    """Draw a report, 1800 pixels wide; a panel for which nothing was measured is left out."""
    # From matplotlib's own defaults: what a user has set for other plots could undo the layout.
    with style.context(["default", STYLE]):
        measured = textwrap.wrap(report.measured, 132)
        heading = HEADING + HEADING_LINE * len(measured)
        key = key_height(report, WIDTH)
        models = POINTS_HEIGHT + key
        height = heading + models + (BETWEEN + LOSS_HEIGHT) * bool(report.losses) + MARGIN_BOTTOM
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
            axes.set(xlabel=name, title="" if column else f"↑  {report.metric}")
            axes.tick_params(labelleft=column == 0)
        if key:
            write_key(figure, report, left=MARGIN_LEFT, top=heading + POINTS_HEIGHT + MARGIN_BOTTOM)
        if report.losses:
            width = WIDTH - MARGIN_LEFT - MARGIN_RIGHT - LOSS_LABELS
            axes = _add_axes(figure, MARGIN_LEFT, heading + models + BETWEEN, width, LOSS_HEIGHT)
            _draw_losses(axes, report)
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


def _draw_losses(axes: Axes, report: Report) -> None:
    """One line per objective, and their sum where there are several."""
    steps = [entry["step"] for entry in report.losses]
    names = list(dict.fromkeys(name for entry in report.losses for name in entry if name.startswith("loss_")))
    if len(names) != 1:
        names.append("loss")
    # As float64, None is NaN, and leaves a gap.
    curves = {name: np.array([entry.get(name) for entry in report.losses], dtype=np.float64) for name in names}
    values = np.concatenate(list(curves.values()))
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0:
        axes.set(yscale="log", ylim=(values.min() / 1.15, values.max() * 1.15))
        number_log_axis(axes.yaxis, _log_ticks(values.max() / values.min()))
    axes.set(title="training loss", xlabel="step")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=(1, 2, 5, 10)))
    colors = {name: INK if name == "loss" else PALETTE[i % len(PALETTE)] for i, name in enumerate(curves)}
    for name, curve in curves.items():
        # A single step makes no line, and lies on the edge.
        axes.plot(steps, curve, color=colors[name], linewidth=2, marker="o" if len(steps) == 1 else None, clip_on=False)
    axes.set_xlim(0, max(steps))
    _mark_epochs(axes, report)
    _label_curves(axes, steps, curves, colors)


def _log_ticks(span: float) -> Locator:
    """Round numbers, some four of them: powers of ten alone would leave one tick or none within a decade."""
    if span < 3:
        return MaxNLocator(4)
    return LogLocator(subs=(1, 1.5, 2, 3, 5) if span < 10 else (1, 2, 5) if span < 100 else (1,))


def _mark_epochs(axes: Axes, report: Report) -> None:
    last = report.losses[-1]
    epochs = last.get("epoch") or 0
    if 1 < epochs <= 50:
        axes.set_xlabel("step (vertical lines end an epoch)")
        for epoch in range(1, math.ceil(epochs)):
            axes.axvline(epoch * last["step"] / epochs, color=HAIRLINE, linewidth=0.8, zorder=0)


def _label_curves(axes: Axes, steps: list[float], curves: dict[str, np.ndarray], colors: dict[str, str]) -> None:
    """Name each line at its right end, with its last value."""
    last = {name: np.flatnonzero(np.isfinite(curve))[-1] for name, curve in curves.items() if np.isfinite(curve).any()}
    heights = [axes.transData.transform((steps[at], curves[name][at]))[1] for name, at in last.items()]
    apart = spread(heights, gap=1.5 * 12 * DPI / 72)
    for (name, at), wanted in zip(last.items(), apart, strict=True):
        label = "weighted sum" if name == "loss" and len(curves) > 1 else name.removeprefix("loss_").replace("_", " ")
        axes.annotate(
            f"{label}  {curves[name][at]:.3g}",
            (1, (wanted - axes.bbox.y0) / axes.bbox.height),
            xycoords="axes fraction",
            xytext=(10, 0),
            textcoords="offset points",
            va="center",
            color=colors[name],
        )
