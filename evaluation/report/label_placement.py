"""Putting words next to what they name in a picture, without covering anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from scipy.optimize import isotonic_regression

# Half the side of the square around a point that labels stay out of, in typographic points.
CLEARANCE = 8

# A label's place is its offset from its point, right and up, in typographic points. It is next to the point or, with
# a line that leads to it, farther away.
NEAR = 12

SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))

PLACES = tuple((reach * right, reach * up) for reach in (NEAR, 32, 60, 90) for right, up in SIDES)

# What a place costs besides the area that it covers, in square points: for each point of distance, and for each tenth
# of its line that runs over something.
DISTANCE_COST = 1

CROSSING_COST = 60

LINE_SPACING = 1.35


class Label(NamedTuple):
    """Words for the point (x, y), in data coordinates."""

    x: float
    y: float
    text: str
    color: str


class _Option(NamedTuple):
    """One place for a label.

    Attributes:
        place: its offset from its point, in typographic points.
        box: left, bottom, right and top edge of its words, in pixels.
        line: `[points, 2]`, points along the line that leads to it, in pixels.
    """

    place: tuple[int, int]
    box: np.ndarray
    line: np.ndarray


def write_labels(axes: Axes, labels: Sequence[Label], avoid: Iterable[tuple[float, float]] = ()) -> None:
    """Write each label near its point, with a thin line to it where it cannot be next to it.

    Every label takes the cheapest of `PLACES`: where it covers least of points, of other labels and of what is outside
    the axes, nearby if it can. Then each chooses again, twice, knowing where the others are. Limits and position of
    the axes must be final.

    Args:
        axes: where to write.
        labels: what to write.
        avoid: further points to keep free, in data coordinates.
    """
    marked = [(label.x, label.y) for label in labels]
    reach = CLEARANCE * _pixels_per_point(axes)
    kept_free = [_square(axes.transData.transform(point), reach) for point in [*marked, *avoid]]
    options = [_options(axes, label) for label in labels]
    chosen: dict[int, _Option] = {}
    for _ in range(3):
        for i in range(len(labels)):
            taken = np.array(kept_free + [option.box for j, option in chosen.items() if j != i])
            chosen[i] = min(options[i], key=lambda option, taken=taken: _cost(option, taken, axes))
    for i, label in enumerate(labels):
        _write(axes, label, chosen[i].place)


def spread(positions: Sequence[float], gap: float) -> np.ndarray:
    """Move positions apart until neighbours are at least `gap` from each other, by the least sum of squares.

    Args:
        positions: in any order.
        gap: least distance.

    Returns:
        New positions, in the order of the old ones.
    """
    order = np.argsort(positions, kind="stable")
    steps = gap * np.arange(len(order))
    moved = np.empty(len(order))
    moved[order] = isotonic_regression(np.asarray(positions, dtype=float)[order] - steps).x + steps
    return moved


def _options(axes: Axes, label: Label) -> list[_Option]:
    point = axes.transData.transform((label.x, label.y))
    # Some room around the words, so that two labels never touch.
    size = np.add(_text_size(axes, label.text), (8, 2))
    options = []
    for place in PLACES:
        offset = np.multiply(place, _pixels_per_point(axes))
        center = point + offset + np.sign(place) * size / 2
        line = point + np.linspace(0.1, 1, 10)[:, None] * offset
        # The point's own surroundings are no obstacle to its line.
        line = line[np.abs(line - point).max(1) > CLEARANCE * _pixels_per_point(axes)]
        options.append(_Option(place, np.concatenate([center - size / 2, center + size / 2]), line))
    return options


def _cost(option: _Option, taken: np.ndarray, axes: Axes) -> int:
    """In square pixels; whole ones, for rounding is not to choose among places that are equally good."""
    outside = _shared_area(option.box, option.box) - _shared_area(option.box, axes.bbox.extents)
    covered = _shared_area(option.box, taken).sum() + outside
    points = option.line[:, None]
    crossed = ((taken[:, :2] <= points) & (points <= taken[:, 2:])).all(-1).sum()
    distance = max(map(abs, option.place)) - NEAR
    extra = DISTANCE_COST * distance + CROSSING_COST * crossed * (distance > 0)
    return round(float(covered + extra * _pixels_per_point(axes) ** 2))


def _write(axes: Axes, label: Label, place: tuple[int, int]) -> None:
    right, up = place
    line = {"arrowstyle": "-", "color": label.color, "linewidth": 0.8, "shrinkB": CLEARANCE - 1}
    axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=place,
        textcoords="offset points",
        ha={0: "center", 1: "left", -1: "right"}[int(np.sign(right))],
        va={0: "center", 1: "bottom", -1: "top"}[int(np.sign(up))],
        color=label.color,
        linespacing=LINE_SPACING,
        annotation_clip=False,
        # Lines that pass below a label are not to run through its words.
        path_effects=[withStroke(linewidth=3, foreground="white")],
        arrowprops=line if max(map(abs, place)) > NEAR else None,
    )


def _text_size(axes: Axes, text: str) -> tuple[float, float]:
    """Width and height in pixels."""
    sample = axes.text(0, 0, text, linespacing=LINE_SPACING)
    box = sample.get_window_extent()
    sample.remove()
    return box.width, box.height


def _square(point: np.ndarray, reach: float) -> np.ndarray:
    return np.concatenate([point - reach, point + reach])


def _shared_area(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Area that `box` shares with each box of `others` (`[..., 4]`)."""
    sides = np.minimum(box[2:], others[..., 2:]) - np.maximum(box[:2], others[..., :2])
    return sides.clip(min=0).prod(-1)


def _pixels_per_point(axes: Axes) -> float:
    return axes.figure.dpi / 72
