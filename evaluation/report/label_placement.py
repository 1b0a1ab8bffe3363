"""Places labels next to their points in a figure, without covering anything."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from scipy.optimize import isotonic_regression

# Half the side of the square around a point that labels stay out of, in typographic points.
CLEARANCE = 8

# Possible offsets of a label from its point (right, up), in typographic points. A label that isn't next to its point
# has a line to it.
NEAR = 12
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))

PLACES = np.array([(reach * right, reach * up) for reach in (NEAR, 32, 60, 90) for right, up in SIDES])

# Costs of a place, in square points, in addition to the area that it covers: for each point of distance, and for each
# tenth of its line that crosses something.
DISTANCE_COST = 1
CROSSING_COST = 60

LINE_SPACING = 1.35


class Label(NamedTuple):
    """The label of a point (x, y), in data coordinates."""

    x: float
    y: float
    text: str
    color: str


def write_labels(axes: Axes, labels: Sequence[Label], avoid: Iterable[tuple[float, float]] = ()) -> None:
    """Write each label next to its point, or farther away with a thin line to the point.

    Each label is put at the cheapest of `PLACES`: near its point, inside the axes, and with little overlap with points
    and other labels. All labels are then placed again, twice, given the places of the others. The limits and the
    position of the axes must be final. `avoid` has further points to keep free, in data coordinates.
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
    """Move positions (in any order) until neighbours are at least `gap` apart, with the least sum of squared moves."""
    order = np.argsort(positions, kind="stable")
    steps = gap * np.arange(len(order))
    moved = np.empty(len(order))
    moved[order] = isotonic_regression(np.asarray(positions, dtype=float)[order] - steps).x + steps
    return moved


def _boxes(axes: Axes, label: Label, point: np.ndarray) -> np.ndarray:
    """Left, bottom, right and top edges of a label at each of `PLACES`, in pixels: `[places, 4]`."""
    sample = axes.text(0, 0, label.text, linespacing=LINE_SPACING)
    extent = sample.get_window_extent()
    sample.remove()
    # A margin around the label, so that two labels never touch.
    size = np.add(extent.size, (8, 2))
    centers = point + PLACES * _pixels_per_point(axes) + np.sign(PLACES) * size / 2
    return np.concatenate([centers - size / 2, centers + size / 2], axis=1)


def _costs(axes: Axes, point: np.ndarray, boxes: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """The cost of each place of a point's label, `[places]`.

    `boxes` are the label's edges at each place, and `taken` (`[boxes, 4]`) are areas to keep free, all in pixels.
    """
    pixels = _pixels_per_point(axes)
    outside = _shared_area(boxes, boxes) - _shared_area(boxes, axes.bbox.extents)
    covered = _shared_area(boxes[:, None], taken).sum(1) + outside
    # Points on the line to each place, `[places, points, 2]`. The line may cross the surroundings of its own point.
    line = np.linspace(0.1, 1, 10)[:, None] * PLACES[:, None] * pixels
    leaves = np.abs(line).max(-1) > CLEARANCE * pixels
    at = (point + line)[:, :, None]
    crossed = ((taken[:, :2] <= at) & (at <= taken[:, 2:])).all(-1) & leaves[..., None]
    distance = np.abs(PLACES).max(1) - NEAR
    extra = DISTANCE_COST * distance + CROSSING_COST * crossed.sum((1, 2)) * (distance > 0)
    # Costs are rounded, so that rounding errors don't decide between equally good places.
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
        # Lines that pass below a label don't run through its letters.
        path_effects=[withStroke(linewidth=3, foreground="white")],
        arrowprops=line if np.abs(place).max() > NEAR else None,
    )


def _shared_area(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Areas that `boxes` (`[..., 4]`) share with `others`, pair by pair."""
    sides = np.minimum(boxes[..., 2:], others[..., 2:]) - np.maximum(boxes[..., :2], others[..., :2])
    return sides.clip(min=0).prod(-1)


def _pixels_per_point(axes: Axes) -> float:
    return axes.figure.dpi / 72
