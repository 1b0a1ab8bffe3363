"""The lower panels of a report's figure: losses and scores on development data over the steps of training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import Locator, LogLocator, MaxNLocator

from .label_placement import spread
from .report import Report
from .style import DPI, HAIRLINE, INK, PALETTE, number_log_axis


@dataclass(frozen=True)
class Curve:
    """A line over the steps.

    Attributes:
        label: label at the right end.
        steps: `[points]`.
        values: `[points]`, float64; NaN leaves a gap.
        color: color of line and label.
        on_dev: whether the values are of development data; such lines are dashed.
    """

    label: str
    steps: Sequence[int]
    values: np.ndarray
    color: str
    on_dev: bool = False

    @classmethod
    def of(
        cls, label: str, name: str, entries: Sequence[Mapping[str, float | None]], color: str, *, on_dev: bool = False
    ) -> Curve:
        """The values of a name in a history. Entries without it become gaps in training curves, and are left out of
        development curves."""
        entries = [entry for entry in entries if name in entry] if on_dev else entries
        values = np.array([entry.get(name) for entry in entries], dtype=np.float64)  # None becomes NaN
        return cls(label, [entry["step"] for entry in entries], values, color, on_dev)


def draw_losses(axes: Axes, report: Report) -> None:
    """One line per objective, and their sum if there are several. Losses on development data are dashed; there may be
    no others."""
    names = list(dict.fromkeys(name for entry in report.losses for name in entry if name.startswith("loss_")))
    labels = {name: name.removeprefix("loss_").replace("_", " ") for name in names}
    if report.losses and len(names) != 1:
        labels["loss"] = "weighted sum" if names else "loss"
    colors = [INK if name == "loss" else PALETTE[i % len(PALETTE)] for i, name in enumerate(labels)]
    curves = [
        Curve.of(label, name, report.losses, color) for (name, label), color in zip(labels.items(), colors, strict=True)
    ]
    on_dev = dev_losses(report)
    curves += [Curve.of(f"dev {name}".replace("_", " "), name, report.dev, INK, on_dev=True) for name in on_dev]
    values = np.concatenate([curve.values for curve in curves])
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0:
        axes.set(yscale="log", ylim=(values.min() / 1.15, values.max() * 1.15))
        number_log_axis(axes.yaxis, _log_ticks(values.max() / values.min()))
    if report.losses:
        axes.set_title("loss in training; on the development set, dashed" if on_dev else "loss in training")
    else:
        axes.set_title("loss on the development set")
    _draw(axes, curves, report)


def dev_losses(report: Report) -> list[str]:
    """The names of losses on development data."""
    return [name for name in _dev_names(report) if _is_loss(name)]


def dev_scores(report: Report) -> list[str]:
    """The names of scores on development data."""
    return [name for name in _dev_names(report) if not _is_loss(name)]


def draw_dev(axes: Axes, report: Report) -> None:
    """One line per score on development data."""
    names = dev_scores(report)
    curves = [
        Curve.of(name.replace("_", " "), name, report.dev, PALETTE[i % len(PALETTE)], on_dev=True)
        for i, name in enumerate(names)
    ]
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_title(f"↑  {names[0].replace('_', ' ') if len(names) == 1 else 'scores'} on the development set")
    axes.margins(y=0.15)
    _draw(axes, curves, report)


def _dev_names(report: Report) -> list[str]:
    return list(dict.fromkeys(name for entry in report.dev for name in entry if name != "step"))


def _is_loss(name: str) -> bool:
    return name.endswith("loss")


def _draw(axes: Axes, curves: Sequence[Curve], report: Report) -> None:
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=(1, 2, 5, 10)))
    for curve in curves:
        # A single step is no line, and would be at the edge.
        marker = "o" if curve.on_dev or len(curve.steps) == 1 else None
        dashed = (0, (4, 2)) if curve.on_dev else "-"
        style = {"linewidth": 2, "linestyle": dashed, "marker": marker, "markersize": 4 if curve.on_dev else None}
        axes.plot(curve.steps, curve.values, color=curve.color, clip_on=False, **style)
    axes.set_xlim(0, max([1, *(step for curve in curves for step in curve.steps)]))
    _mark_epochs(axes, report)
    _label(axes, curves)


def _log_ticks(span: float) -> Locator:
    """About four round numbers. Powers of ten alone would give at most one tick within a decade."""
    if span < 3:
        return MaxNLocator(4)
    return LogLocator(subs=(1, 1.5, 2, 3, 5) if span < 10 else (1, 2, 5) if span < 100 else (1,))


def _mark_epochs(axes: Axes, report: Report) -> None:
    last = report.losses[-1] if report.losses else {}
    epochs = last.get("epoch") or 0
    if 1 < epochs <= 50:
        axes.set_xlabel("step (vertical lines end an epoch)")
        for epoch in range(1, math.ceil(epochs)):
            axes.axvline(epoch * last["step"] / epochs, color=HAIRLINE, linewidth=0.8, zorder=0)


def _label(axes: Axes, curves: Sequence[Curve]) -> None:
    """Label each line at the right of the axes, with its last value."""
    finite = [(curve, np.flatnonzero(np.isfinite(curve.values))) for curve in curves]
    last = [(curve, places[-1]) for curve, places in finite if len(places)]
    heights = [axes.transData.transform((curve.steps[at], curve.values[at]))[1] for curve, at in last]
    for (curve, at), wanted in zip(last, spread(heights, gap=1.5 * 12 * DPI / 72), strict=True):
        axes.annotate(
            f"{curve.label}  {curve.values[at]:.3g}",
            (1, (wanted - axes.bbox.y0) / axes.bbox.height),
            xycoords="axes fraction",
            xytext=(10, 0),
            textcoords="offset points",
            va="center",
            color=curve.color,
        )
