"""Draws charts with matplotlib: to inline SVG that follows the page's colours, and to PNG."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pyruntime.bench.page.charts import Chart, Curve
from pyruntime.bench.page.labels import (
    Look,
    colour_of,
    dashes_of,
    label_ends,
    label_tops,
    legend,
    marker_of,
)
from pyruntime.errors import Unavailable

__all__ = ["COLOURS", "draw_png", "draw_svg"]

# Those of matplotlib, which may be absent.
Axes = Any
Figure = Any

COLOURS = ("#0b62a4", "#b3450f", "#1b7f5c", "#8a3a8f", "#6b5d00", "#b0235f")
"""Of lines on a light ground: apart in lightness too, and 4.5:1 against white."""

_HOLLOW_DASHES = (0, (3, 2))
_INK, _MUTED, _GRID, _GROUND = "#1c2024", "#5b6169", "#d9dce0", "#ffffff"
# Drawn in these, which nothing else uses, and then replaced by the page's variables.
_STAND_INS = {
    "#010201": "var(--ink)",
    "#010202": "var(--muted)",
    "#010203": "var(--grid)",
    "#010204": "var(--ground)",
    **{f"#02020{i}": f"var(--line-{i})" for i in range(len(COLOURS))},
}
_FONT = "system-ui, sans-serif"
# Between the least and the most value, up to which a linear axis shows all of them.
_LINEAR_SPAN = 12


_PAPER = Look(_INK, _MUTED, _GRID, _GROUND, COLOURS)


def draw_png(chart: Chart, path: Path) -> None:
    """Write the chart with its title, on white."""
    with _style():
        figure = _draw(chart, _PAPER)
        figure.text(0.01, 1.02, chart.title, ha="left", va="bottom", fontsize=13, color=_INK)
        figure.savefig(
            path,
            format="png",
            dpi=160,
            facecolor=_GROUND,
            bbox_inches="tight",
            pad_inches=0.2,
            metadata={"Software": None},
        )


def draw_svg(chart: Chart, *, prefix: str, is_narrow: bool) -> str:
    """The chart as an SVG element; prefix: of its ids, which a page must hold only once."""
    variables = list(_STAND_INS)
    ink, muted, grid, ground = variables[:4]
    look = Look(ink, muted, grid, ground, tuple(variables[4:]), is_narrow)
    buffer = io.StringIO()
    with _style():
        figure = _draw(chart, look)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _for_page(buffer.getvalue(), prefix)


def _for_page(text: str, prefix: str) -> str:
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for stand_in, variable in _STAND_INS.items():
        text = text.replace(stand_in, variable)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')
    text = re.sub(r"'DejaVu Sans'[^;\"]*", _FONT, text)
    # The page gives the size; the viewBox keeps the shape.
    text = re.sub(r'<svg\b[^>]*?\bviewBox="([^"]*)"[^>]*>', _svg_start, text, count=1)
    return re.sub(r"\n\s*", "\n", text).strip()


def _svg_start(found: re.Match[str]) -> str:
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {spaces} viewBox="{found[1]}" aria-hidden="true">'


@contextmanager
def _style() -> Iterator[None]:
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise Unavailable(
            f"matplotlib is absent ({error}): pip install 'pyruntime[bench]'"
        ) from None
    fixed: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "pyruntime",
        "font.family": "DejaVu Sans",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.constrained_layout.use": False,
    }
    with mpl.rc_context(fixed):
        yield


def _draw(chart: Chart, look: Look) -> Figure:
    from matplotlib.figure import Figure

    if chart.kind == "cost":
        size = (
            (4.7, 0.9 + 0.78 * len(chart.bars))
            if look.is_narrow
            else (
                9.6,
                1.2 + 0.5 * len(chart.bars),
            )
        )
    else:
        size = (4.2, 4.5 + 0.24 * len(chart.curves)) if look.is_narrow else (9.6, 4.7)
    figure = Figure(figsize=size)
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    axes.grid(True, which="major", color=look.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_color(look.muted)
    axes.tick_params(which="both", colors=look.muted, labelcolor=look.ink, labelsize=10)
    axes.set_xlabel(chart.x_label, color=look.ink, fontsize=11)
    axes.set_ylabel(chart.y_label, color=look.ink, fontsize=11)
    _DRAWERS[chart.kind](axes, chart, look)
    return figure


def _draw_latency(axes: Axes, chart: Chart, look: Look) -> None:
    for curve in chart.curves:
        colour, marker = colour_of(look, curve), marker_of(curve)
        axes.plot(
            curve.x, curve.y, color=colour, marker=marker, markersize=7, linewidth=1.8, zorder=3
        )
        axes.plot(
            curve.x,
            curve.upper,
            color=colour,
            marker=marker,
            markersize=7,
            markerfacecolor=look.ground,
            linewidth=1.4,
            linestyle=_HOLLOW_DASHES,
            zorder=2,
        )
        for x, y, note in zip(curve.x, curve.y, curve.notes, strict=False):
            # Below to the left: lines lead to the right and then upwards.
            _note(axes, note, (x, y), (-5, -11), look.muted, ha="right", fontsize=9)
    _scale(axes.yaxis, [v for c in chart.curves for v in (*c.y, *c.upper)], always_log=True)
    _scale(axes.xaxis, [x for c in chart.curves for x in c.x])
    axes.margins(x=0.08, y=0.1)
    _lay_out(axes, chart, look)
    if not look.is_narrow:
        label_tops(axes, chart, look)


def _draw_batch(axes: Axes, chart: Chart, look: Look) -> None:
    axes.set_xscale("log", base=2)
    for curve in chart.curves:
        _plot(axes, curve, look, markersize=7)
        if curve.marked is not None:
            at = (curve.x[curve.marked], curve.y[curve.marked])
            axes.plot(
                *at,
                color=look.ink,
                marker="o",
                markersize=17,
                markerfacecolor="none",
                markeredgewidth=1.5,
                zorder=4,
            )
            # Inside of the plot, also at its edges.
            is_last, is_first = curve.marked == len(curve.x) - 1, curve.marked == 0
            side = "right" if is_last else "left" if is_first else "center"
            shift = 9 if is_last else -9 if is_first else 0
            # On the side where no other line has a point.
            beside = [y for c in chart.curves for x, y in zip(c.x, c.y, strict=True) if x == at[0]]
            up = 15 if at[1] >= max(beside) else -23
            _note(axes, curve.mark, at, (shift, up), look.ink, ha=side, fontsize=10)
    sizes = sorted({x for c in chart.curves for x in c.x})
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axes.tick_params(axis="x", which="minor", length=0)
    _scale(axes.yaxis, [y for c in chart.curves for y in c.y])
    axes.margins(y=0.15)
    _lay_out(axes, chart, look)
    if not look.is_narrow:
        label_ends(axes, chart, look)


# Shares of all requests that take longer, by name of the percentile.
_PERCENTILES = (
    *((1.0, "0"), (0.5, "50"), (0.1, "90"), (0.01, "99"), (0.001, "99.9"), (0.0001, "99.99")),
)


def _draw_percentiles(axes: Axes, chart: Chart, look: Look) -> None:
    for curve in chart.curves:
        # Some markers are enough to know a line by.
        _plot(axes, curve, look, markersize=6, markevery=(5 + 4 * curve.style % 20, 24))
    axes.set_xscale("log")
    last = min(c.x[-1] for c in chart.curves)
    axes.set_xlim(1.0, 0.9 * last)
    shown = [(tail, name) for tail, name in _PERCENTILES if tail >= 0.9 * last]
    axes.set_xticks([tail for tail, _ in shown], [name for _, name in shown])
    axes.minorticks_off()
    _scale(axes.yaxis, [v for c in chart.curves for v in c.y if v > 0], always_log=True)
    _lay_out(axes, chart, look)
    if not look.is_narrow:
        label_ends(axes, chart, look)


def _draw_cost(axes: Axes, chart: Chart, look: Look) -> None:
    hatches = ("", "///", "...", "xxx", "\\\\\\", "+++")
    for place, bar in enumerate(chart.bars):
        axes.barh(
            -place,
            bar.value,
            height=0.36 if look.is_narrow else 0.56,
            color=look.lines[bar.style % len(look.lines)],
            hatch=hatches[bar.style % len(hatches)],
            edgecolor=look.ground,
            linewidth=0,
        )
        at = (bar.value, -place)
        if look.is_narrow:
            head = f"{bar.label}: {bar.text}"
            _note(axes, head, (0, -place + 0.24), (1, 0), look.ink, fontsize=10)
            _note(axes, bar.detail, (0, at[1] - 0.2), (1, -10), look.muted, fontsize=9)
        else:
            _note(axes, bar.text, at, (7, 1), look.ink, fontsize=11)
            _note(axes, bar.detail, at, (7, -12), look.muted, fontsize=9)
    axes.grid(False, axis="y")
    count = len(chart.bars)
    axes.set_ylim(-count + 0.42, 0.75 if look.is_narrow else 0.5)
    longest = max(bar.value for bar in chart.bars)
    # What is written beside the longest bar takes about half of the width.
    axes.set_xlim(0, longest * (1.03 if look.is_narrow else 1.8))
    axes.set_yticks([] if look.is_narrow else range(0, -count, -1))
    if not look.is_narrow:
        axes.set_yticklabels([bar.label for bar in chart.bars])
    axes.tick_params(axis="y", length=0, labelsize=11)
    _ticks(axes.xaxis)
    height = _height(axes)
    axes.figure.subplots_adjust(left=0.03, right=0.98, top=0.98, bottom=0.62 / height)
    _fit_left(axes)


_DRAWERS = {
    "latency": _draw_latency,
    "batch": _draw_batch,
    "percentiles": _draw_percentiles,
    "cost": _draw_cost,
}


def _plot(axes: Axes, curve: Curve, look: Look, **fields: Any) -> None:
    axes.plot(
        curve.x,
        curve.y,
        color=colour_of(look, curve),
        marker=marker_of(curve),
        linestyle=dashes_of(curve),
        linewidth=1.8,
        **fields,
    )


def _note(
    axes: Axes,
    text: str,
    at: tuple[float, float],
    offset: tuple[float, float],
    colour: str,
    **fields: Any,
) -> None:
    axes.annotate(text, at, xytext=offset, textcoords="offset points", color=colour, **fields)


def _number(value: float, _: object) -> str:
    """Of an axis, without exponents."""
    text = f"{value:,.6g}" if abs(value) < 1e5 else f"{value:,.0f}"
    return np.format_float_positional(value, 6, trim="-") if "e" in text else text


def _ticks(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(5))
    axis.set_major_formatter(FuncFormatter(_number))


def _scale(axis: Any, values: Sequence[float], *, always_log: bool = False) -> None:
    """Logarithmic where values would else lie on the axis, with ticks that read as numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    known = [value for value in values if value > 0] or [1.0]
    span = max(known) / min(known)
    if span < _LINEAR_SPAN and not always_log:
        (axis.axes.set_xlim if axis.axis_name == "x" else axis.axes.set_ylim)(0, 1.08 * max(known))
        _ticks(axis)
        return
    (axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale)("log")
    subs = (1.0,) if span > 300 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(10, subs, numticks=12))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(_number))


def _height(axes: Axes) -> float:
    """Of the figure, inches."""
    figure = axes.figure
    return float(figure.get_figheight())


def _lay_out(axes: Axes, chart: Chart, look: Look) -> None:
    figure = axes.figure
    if look.is_narrow:
        height = _height(axes)
        names = 0.1 + 0.24 * len(chart.curves)
        figure.subplots_adjust(left=0.15, right=0.97, top=0.98, bottom=(0.62 + names) / height)
        legend(axes, chart, look, bottom=names / height)
    else:
        right = 0.975
        if chart.kind != "latency":
            # Names beside the ends: about 6.4 points a letter, of 691 points.
            right -= min(0.34, 0.0093 * max(len(curve.label) for curve in chart.curves) + 0.01)
        figure.subplots_adjust(left=0.085, right=right, top=0.93, bottom=0.13)
    _fit_left(axes)


def _fit_left(axes: Axes) -> None:
    """Leave room for the numbers at the left, however long they are."""
    figure = axes.figure
    figure.draw_without_rendering()
    numbers = axes.yaxis.get_tightbbox()
    outside = axes.get_window_extent().x0 - numbers.x0 if numbers is not None else 0.0
    figure.subplots_adjust(left=(outside + 0.08 * figure.dpi) / figure.bbox.width)
