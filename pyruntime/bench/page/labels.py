"""How lines are told apart and named: by colour, marker and dashes at once, beside their ends."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pyruntime.bench.page.charts import Chart, Curve

__all__ = ["Look", "colour_of", "dashes_of", "label_ends", "label_tops", "legend", "marker_of"]

# That of matplotlib, which may be absent.
Axes = Any

_MARKERS = "osD^vP*X"
_DASHES: tuple[Any, ...] = ("-", (0, (6, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))


@dataclass(frozen=True, slots=True)
class Look:
    """Colours, and the shape of the page."""

    ink: str
    muted: str
    grid: str
    ground: str
    lines: tuple[str, ...]
    is_narrow: bool = False


def colour_of(look: Look, curve: Curve) -> str:
    """Its colour, which goes round where there are many lines."""
    return look.lines[curve.style % len(look.lines)]


def marker_of(curve: Curve) -> str:
    """Its marker."""
    return _MARKERS[curve.style % len(_MARKERS)]


def dashes_of(curve: Curve) -> Any:
    """Its line style."""
    return _DASHES[curve.style % len(_DASHES)]


def label_ends(axes: Axes, chart: Chart, look: Look) -> None:
    """Write each line's name beside its end, pushed apart where they would overlap."""
    from matplotlib.lines import Line2D

    figure = axes.figure
    pixels = [axes.transData.transform((curve.x[-1], curve.y[-1])) for curve in chart.curves]
    heights = _apart([float(y) for _, y in pixels], 14 * figure.dpi / 72)
    edge = axes.transAxes.transform((1.0, 0.0))[0] + 12 * figure.dpi / 72
    back = figure.transFigure.inverted()
    for curve, pixel, height in zip(chart.curves, pixels, heights, strict=True):
        x, y = back.transform((edge, height))
        figure.text(x, y, curve.label, color=look.ink, fontsize=11, va="center", ha="left")
        x0, y0 = back.transform(pixel)
        x1, _ = back.transform((edge - 5 * figure.dpi / 72, 0))
        line = Line2D([x0, x1], [y0, y], color=colour_of(look, curve), linewidth=0.8, alpha=0.8)
        figure.add_artist(line)


def label_tops(axes: Axes, chart: Chart, look: Look) -> None:
    """Write each line's name above its highest point, the p99 with the most load."""
    figure = axes.figure
    point = figure.dpi / 72
    left, right = axes.get_window_extent().x0, figure.bbox.width - 6 * point
    back = figure.transFigure.inverted()
    taken: list[tuple[float, float, float]] = []  # left, right and height of what is written
    tops = [max(zip(c.x, c.upper, strict=True), key=lambda at: at[1]) for c in chart.curves]
    order = sorted(range(len(tops)), key=lambda i: tops[i][1])
    for i in order:
        curve = chart.curves[i]
        x, y = (float(value) for value in axes.transData.transform(tops[i]))
        half = 3.4 * len(curve.label) * point
        x = min(max(x, left + half + 4 * point), right - half)
        y += 8 * point
        while any(a < x + half and x - half < b and abs(h - y) < 14 * point for a, b, h in taken):
            y += 2 * point
        taken.append((x - half, x + half, y))
        text = {"fontsize": 11, "color": look.ink, "ha": "center", "va": "bottom"}
        figure.text(*back.transform((x, y)), curve.label, **text)


def legend(axes: Axes, chart: Chart, look: Look, *, bottom: float) -> None:
    """Write the lines' names below the plot, where there is no room beside it."""
    from matplotlib.lines import Line2D

    keys = [
        Line2D(
            [],
            [],
            color=colour_of(look, curve),
            marker=marker_of(curve),
            linestyle="-" if chart.kind == "latency" else dashes_of(curve),
            linewidth=1.8,
        )
        for curve in chart.curves
    ]
    figure = axes.figure
    figure.legend(
        keys,
        [curve.label for curve in chart.curves],
        loc="upper left",
        bbox_to_anchor=(0.02, bottom),
        frameon=False,
        fontsize=11,
        labelcolor=look.ink,
        handlelength=3.2,
        borderpad=0,
        labelspacing=0.35,
    )


def _apart(places: Sequence[float], least: float) -> list[float]:
    """The places, moved so that no two are closer than `least`."""
    moved = list(places)
    order = sorted(range(len(places)), key=lambda i: places[i])
    for _ in range(200):
        gaps = [(low, high, moved[high] - moved[low]) for low, high in pairwise(order)]
        close = [gap for gap in gaps if gap[2] < least - 0.01]
        if not close:
            break
        for low, high, gap in close:
            moved[low] -= (least - gap) / 2
            moved[high] += (least - gap) / 2
    return moved
