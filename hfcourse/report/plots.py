"""Line plots as inline SVG that takes its colours and letters from the page, so that it is right in light and dark.

matplotlib draws with stand-in colours, which are then replaced by the page's CSS variables.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SOFT, _GRID, _PAPER = "#010101", "#020202", "#030303"
Size = Literal["large", "wide", "tall", "half", "small"]
_INCHES: dict[Size, tuple[float, float]] = {
    "large": (9.0, 4.6),
    "wide": (9.0, 3.6),
    "tall": (5.2, 6.0),
    "half": (5.2, 2.9),
    "small": (3.4, 2.2),
}
SERIES = 8
"""Colours the page has; later runs take them again with another dash."""
_DASHES = ("solid", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
SMOOTH_ABOVE = 40
"""Curves of more points than this are drawn pale, with their running mean over them."""


@dataclass(frozen=True)
class Curve:
    """One line of a plot."""

    x: Sequence[float]
    y: Sequence[float]
    run: int
    """Number of the run: decides colour and dash."""
    style: Literal["train", "dev"] = "train"
    mark: float | None = None
    """A step to mark with a ring: the checkpoint that was kept."""
    sd: Sequence[float] = ()
    """Half the height of an upright bar at each point; none where empty."""


def colour(run: int) -> str:
    """The CSS colour of a run."""
    return f"var(--series-{run % SERIES + 1})"


def line_plot(
    curves: Sequence[Curve],
    *,
    title: str,
    x: str = "step",
    log: bool | None = None,
    size: Size = "small",
    whole: bool = True,
    log_x: bool = False,
) -> str:
    """An ``<svg>`` of some curves; empty if none has a point. With `log` None a log axis is taken where values span
    a factor of 30 or more; `whole` has the ticks of the x axis at whole numbers, `log_x` at the
    points of the curves."""
    curves = [curve for curve in map(_finite, curves) if len(curve.x)]
    if not curves:
        return ""

    def draw(axes: Axes) -> None:
        frame(axes, title, x, whole)
        for curve in curves:
            _draw(axes, curve)
        values = np.concatenate([np.asarray(curve.y, float) for curve in curves])
        if log or (log is None and values.min() > 0 and values.max() / values.min() >= 30):
            _log_axis(axes)
        if log_x:
            _log_at(axes, sorted({place for curve in curves for place in curve.x}))
        axes.margins(x=0.02)

    return svg_of(draw, title=title, size=size, runs=[curve.run for curve in curves])


def svg_of(draw: Callable[[Axes], None], *, title: str, size: Size, runs: Iterable[int]) -> str:
    """An ``<svg>`` for the page of what `draw` puts on empty axes in the colours (`ink`) of `runs`."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # A name with a dollar sign is no formula.
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": title, "text.parse_math": False}
    settings |= {"font.size": 9.5, "path.simplify_threshold": 0.3}
    with mpl.rc_context(settings):
        figure = Figure(figsize=_INCHES[size], layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _for_page(out.getvalue(), title, runs)


def _finite(curve: Curve) -> Curve:
    """The curve without points that are not numbers."""
    x, y = np.asarray(curve.x, float), np.asarray(curve.y, float)
    good = np.isfinite(x) & np.isfinite(y)
    sd = np.asarray(curve.sd, float)[good].tolist() if len(curve.sd) else ()
    return Curve(x[good].tolist(), y[good].tolist(), curve.run, curve.style, curve.mark, sd)


def frame(axes: Axes, title: str, x: str, whole: bool) -> None:
    """Title, axis and grid as all plots have them."""
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, loc="left", fontsize=10.5, color=SOFT, pad=9)
    axes.set_xlabel(x, color=SOFT)
    axes.grid(axis="y", color=_GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(nbins="auto", steps=[1, 2, 5, 10], integer=whole, min_n_ticks=1))
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)
    axes.tick_params(which="both", colors=SOFT, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_GRID)


def _log_axis(axes: Axes) -> None:
    """A log axis with readable ticks even where it spans less than a decade."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def _log_at(axes: Axes, places: Sequence[float]) -> None:
    """A log x axis with its ticks at these places."""
    from matplotlib.ticker import FixedLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(places)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.xaxis.set_minor_locator(NullLocator())


def _draw(axes: Axes, curve: Curve) -> None:
    colour, dash = ink(curve.run), _DASHES[curve.run // SERIES % len(_DASHES)]
    if len(curve.sd):
        axes.errorbar(curve.x, curve.y, curve.sd, fmt="none", ecolor=colour, elinewidth=1.1, alpha=0.5)
    if curve.style == "dev":
        few = len(curve.x) <= 30
        axes.plot(
            curve.x,
            curve.y,
            color=colour,
            linewidth=2,
            linestyle=dash,
            marker="o" if few else None,
            markersize=4,
            zorder=3,
        )
        at = [i for i, step in enumerate(curve.x) if step == curve.mark]
        if at:
            axes.plot(
                [curve.x[at[-1]]], [curve.y[at[-1]]], "o", markersize=9, color=_PAPER, markeredgecolor=colour,
                markeredgewidth=2, zorder=4,
            )  # fmt: skip
        return
    if len(curve.x) <= SMOOTH_ABOVE:
        axes.plot(curve.x, curve.y, color=colour, linewidth=1.2, linestyle=dash, alpha=0.75)
        return
    axes.plot(curve.x, curve.y, color=colour, linewidth=0.7, alpha=0.25)
    axes.plot(
        curve.x, running_mean(curve.y, len(curve.y) // 20), color=colour, linewidth=1.2, linestyle=dash, alpha=0.85
    )


def running_mean(values: Sequence[float], width: int) -> np.ndarray:
    """Mean over the `width` values on each side; at the ends over as many as there are on both sides."""
    y = np.asarray(values, float)
    sums = np.concatenate([[0.0], y.cumsum()])
    at = np.arange(len(y))
    reach = np.minimum(np.minimum(at, len(y) - 1 - at), width)
    smooth: np.ndarray = (sums[at + reach + 1] - sums[at - reach]) / (2 * reach + 1)
    return smooth


def ink(run: int) -> str:
    """What matplotlib draws a run with: stands for `colour`."""
    return f"#0405{run % SERIES + 16:02x}"


_CLUTTER = [
    re.compile(pattern, flags=re.DOTALL)
    for pattern in (
        r"<metadata>.*?</metadata>",
        r"<style.*?</style>",
        r' xmlns(:xlink)?="[^"]*"',
        r'\b(width|height)="[\d.]+pt" ?',
        r"font-family: [^;\"]*;? ?",
        r' id="[A-Za-z.0-9]+(_[A-Za-z.0-9]+)*_\d+"',
        r" version=\"1.1\"",
    )
]
"""What an ``<svg>`` inside a page does not need: ids that clash, fonts and sizes that the page decides."""


def _for_page(svg: str, title: str, runs: Iterable[int]) -> str:
    """The bare ``<svg>``: colours of the page, letters of the page, no fixed size, no ids that clash, a title."""
    svg = svg[svg.index("<svg") :]
    for stand_in, name in ((SOFT, "var(--soft)"), (_GRID, "var(--line)"), (_PAPER, "var(--paper)")):
        svg = svg.replace(stand_in, name)
    for run in {run % SERIES for run in runs}:
        svg = svg.replace(ink(run), colour(run))
    for clutter in _CLUTTER:
        svg = clutter.sub("", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg).replace("xlink:href", "href")
    return svg.replace(">", f' role="img"><title>{escape(title)}</title>', 1).strip()
