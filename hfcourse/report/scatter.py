"""A plot of named points: each label stands where it hides no other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hfcourse.report.plots import SOFT, Size, frame, ink, svg_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LETTERS = 9.0
"""Size of the labels in points; all lengths here are points, 1/72 inch."""
_DISTANCES = (8.0, 17.0, 27.0, 38.0, 52.0)
Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""


@dataclass(frozen=True)
class Point:
    """One named point."""

    name: str
    x: float
    y: float
    sd: float
    """Half the height of an upright bar."""
    run: int
    """Decides the colour."""


def scatter_plot(points: Sequence[Point], *, title: str, x: str, size: Size) -> str:
    """An ``<svg>`` of points over a log axis, each with its name beside it; empty without points."""
    if not points:
        return ""

    def draw(axes: Axes) -> None:
        frame(axes, title, x, whole=False)
        _log(axes)
        for point in points:
            axes.errorbar(
                [point.x], [point.y], [point.sd], fmt="o", color=ink(point.run), markersize=6, elinewidth=1.1, zorder=3
            )
        places = [point.x for point in points]
        axes.set_xlim(min(places) / 1.7, max(places) * 1.7)  # wide enough to hold a tick, however few points there are
        axes.margins(y=0.1)
        _label(axes, points)

    return svg_of(draw, title=title, size=size, runs=[point.run for point in points])


def _log(axes: Axes) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e6:g} M" if value >= 1e6 else f"{value:,.0f}")
    axes.xaxis.set_minor_locator(NullLocator())


def _label(axes: Axes, points: Sequence[Point]) -> None:
    """Write the names, with a thin line to a point where its name stands away from it."""
    figure = axes.get_figure()
    assert figure is not None
    figure.draw_without_rendering()  # type: ignore[union-attr]  # only now it is known where the axes lie
    scale = 72 / figure.dpi
    inside = axes.get_window_extent()
    frame_box = (inside.x0 * scale, inside.y0 * scale, inside.x1 * scale, inside.y1 * scale)
    to_points = [
        [tuple(scale * value for value in axes.transData.transform((p.x, p.y + shift))) for shift in (-p.sd, 0, p.sd)]
        for p in points
    ]
    bodies: list[Box] = [
        (middle[0] - 4, min(low[1], middle[1] - 4), middle[0] + 4, max(high[1], middle[1] + 4))
        for low, middle, high in to_points
    ]
    places = placed([p.name for p in points], [middle for _, middle, _ in to_points], bodies, frame_box)
    for point, (dx, dy) in zip(points, places, strict=True):
        line = {"arrowstyle": "-", "color": ink(point.run), "linewidth": 0.6, "alpha": 0.6, "shrinkA": 1, "shrinkB": 3}
        label = axes.annotate(
            point.name,
            (point.x, point.y),
            (dx, dy),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=_LETTERS,
            color=SOFT,
            arrowprops=line if math.hypot(max(abs(dx) - _half(point.name), 0), dy) > 12 else None,
        )
        label.set_in_layout(False)


def placed(
    names: Sequence[str], centres: Sequence[tuple[float, ...]], bodies: Sequence[Box], frame_box: Box
) -> list[tuple[float, float]]:
    """Where each name's middle stands, from its point's: as near as it can without hiding another name or point.

    Args:
        names: what is written.
        centres: the points.
        bodies: what a point covers with its bar.
        frame_box: names stay inside.
    """
    taken: list[Box] = []
    places: dict[int, tuple[float, float]] = {}
    # Crowded points choose first: the others have room anyway.
    crowd = [sum(math.dist(one, other) < 60 for other in centres) for one in centres]
    for number in sorted(range(len(names)), key=lambda n: (-crowd[n], centres[n])):
        x, y = centres[number][:2]
        half = _half(names[number])
        best, least = (0.0, 0.0), math.inf
        for distance in _DISTANCES:
            for turn in range(12):
                angle = math.tau * turn / 12
                dx = math.cos(angle) * (distance + half)
                dy = math.sin(angle) * (distance + 0.4 * _LETTERS)
                box = (x + dx - half, y + dy - 0.62 * _LETTERS, x + dx + half, y + dy + 0.62 * _LETTERS)
                hidden = sum(_overlap(box, other) for other in (*taken, *bodies))
                cost = hidden + 3 * _outside(box, frame_box) + distance / 4 + (turn % 6 != 0)
                if cost < least:
                    best, least, chosen = (dx, dy), cost, box
        taken.append(chosen)
        places[number] = best
    return [places[number] for number in range(len(names))]


def _half(name: str) -> float:
    """Half the width of a name, near enough for any letters."""
    return 0.29 * _LETTERS * len(name) + 1.5


def _overlap(one: Box, other: Box) -> float:
    """Area that two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0


def _outside(box: Box, frame_box: Box) -> float:
    """Area of a box beyond the frame."""
    return (box[2] - box[0]) * (box[3] - box[1]) - _overlap(box, frame_box)
