"""Putting words next to what they name in a picture, without covering anything."""

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

PLACES = np.array([(reach * right, reach * up) for reach in (NEAR, 32, 60, 90) for right, up in SIDES])

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


def write_labels(axes: Axes, labels: Sequence[Label], avoid: Iterable[tuple[float, float]] = ()) -> None:
    """Write each label near its point, with a thin line to it where it cannot be next to it.

    Every label takes the cheapest of `PLACES`: where it covers least of points, of other labels and of what is outside
    the axes, nearby if it can. Then each chooses again, twice, knowing where the others are. Limits and position of
    the axes must be final. `avoid` holds further points to keep free, in data coordinates.
    """
    reach = CLEARANCE * _pixels_per_point(axes)
    points = [axes.transData.transform((label.x, label.y)) for label in labels]
    kept_free = [np.concatenate([at - reach, at + reach]) for at in (*points, *map(axes.transData.transform, avoid))]
    boxes = [_boxes(axes, label, point) for label, point in zip(labels, points, strict=True)]
    chosen: dict[int, int] = {}
    for _ in range(3):
        for i, point in enumerate(points):
            taken = np.array(kept_free + [boxes[j][place] for j, place in chosen.items() if j != i])
            chosen[i] = int(_costs(axes, point, boxes[i], taken).argmin())
    for i, label in enumerate(labels):
        _write(axes, label, PLACES[chosen[i]])


def spread(positions: Sequence[float], gap: float) -> np.ndarray:
    """Move positions, in any order, until neighbours are at least `gap` apart, by the least sum of squares."""
    order = np.argsort(positions, kind="stable")
    steps = gap * np.arange(len(order))
    moved = np.empty(len(order))
    moved[order] = isotonic_regression(np.asarray(positions, dtype=float)[order] - steps).x + steps
    return moved


def _boxes(axes: Axes, label: Label, point: np.ndarray) -> np.ndarray:
    """`[places, 4]`: left, bottom, right and top edge of a label's words at each of `PLACES`, in pixels."""
    sample = axes.text(0, 0, label.text, linespacing=LINE_SPACING)
    extent = sample.get_window_extent()
    sample.remove()
    # Some room around the words, so that two labels never touch.
    size = np.add(extent.size, (8, 2))
    centers = point + PLACES * _pixels_per_point(axes) + np.sign(PLACES) * size / 2
    return np.concatenate([centers - size / 2, centers + size / 2], axis=1)


def _costs(axes: Axes, point: np.ndarray, boxes: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """`[places]`, the cost of each place of a point's label.

    `boxes` are those of its words at each place, `taken` (`[boxes, 4]`) are to be kept free, all in pixels.
    """
    pixels = _pixels_per_point(axes)
    outside = _shared_area(boxes, boxes) - _shared_area(boxes, axes.bbox.extents)
    covered = _shared_area(boxes[:, None], taken).sum(1) + outside
    # `[places, points, 2]`: the line that leads to each place. The point's own surroundings are no obstacle to it.
    line = np.linspace(0.1, 1, 10)[:, None] * PLACES[:, None] * pixels
    leaves = np.abs(line).max(-1) > CLEARANCE * pixels
    at = (point + line)[:, :, None]
    crossed = ((taken[:, :2] <= at) & (at <= taken[:, 2:])).all(-1) & leaves[..., None]
    distance = np.abs(PLACES).max(1) - NEAR
    extra = DISTANCE_COST * distance + CROSSING_COST * crossed.sum((1, 2)) * (distance > 0)
    # In whole square pixels: rounding errors are not to choose among places that are equally good.
    return np.rint(covered + extra * pixels**2)


def _write(axes: Axes, label: Label, place: np.ndarray) -> None:
    right, up = np.sign(place).tolist()
    line = {"arrowstyle": "-", "color": label.color, "linewidth": 0.8, "shrinkB": CLEARANCE - 1}
    axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=tuple(place),
        textcoords="offset points",
        ha={0: "center", 1: "left", -1: "right"}[right],
        va={0: "center", 1: "bottom", -1: "top"}[up],
        color=label.color,
        linespacing=LINE_SPACING,
        annotation_clip=False,
        # Lines that pass below a label are not to run through its words.
        path_effects=[withStroke(linewidth=3, foreground="white")],
        arrowprops=line if np.abs(place).max() > NEAR else None,
    )


def _shared_area(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Area that each of `boxes` (`[..., 4]`) shares with the one of `others` beside it."""
    sides = np.minimum(boxes[..., 2:], others[..., 2:]) - np.maximum(boxes[..., :2], others[..., :2])
    return sides.clip(min=0).prod(-1)


def _pixels_per_point(axes: Axes) -> float:
    return axes.figure.dpi / 72
