"""What the plots of one model show, before anything is drawn."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyruntime.bench import quantities
from pyruntime.bench.histogram import Histogram
from pyruntime.bench.page.lines import Line, Workload, workload_of
from pyruntime.bench.page.prices import Cost
from pyruntime.bench.results import Measurement

__all__ = ["Bar", "Chart", "Curve", "make_charts"]

_KNEE = 0.9  # of the best throughput
_MOST_CURVES = 6
# Shares of all requests at which a percentile curve is drawn, and those that bear a name.
_TAIL = 1e-4


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of a line. upper: second values at the same points, such as the p99.

    notes: at the points, such as how many requests were in flight; "" for none.
    marked: number of a point that is told apart, with its note in `mark`.
    """

    label: str
    style: int
    x: tuple[float, ...]
    y: tuple[float, ...]
    upper: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    marked: int | None = None
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar. text: its value; detail: what that is of."""

    label: str
    style: int
    value: float
    text: str
    detail: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One plot. kind: "latency", "batch", "percentiles" or "cost"; name: of its file.

    caption: how to read it; summary: what it shows, for those who do not see it.
    """

    kind: str
    name: str
    title: str
    caption: str
    summary: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...] = ()
    bars: tuple[Bar, ...] = ()


def make_charts(lines: Sequence[Line], costs: Sequence[Cost]) -> list[Chart]:
    """All that the measurements of one model suffice for."""
    charts = [*_latency(lines), *_batch(lines), *_percentiles(lines), *_cost(costs)]
    names = Counter[str]()
    for number, chart in enumerate(charts):
        names[chart.kind] += 1
        if names[chart.kind] > 1:
            charts[number] = _renamed(chart, f"{chart.kind}-{names[chart.kind]}")
    return charts


def _renamed(chart: Chart, name: str) -> Chart:
    from dataclasses import replace

    return replace(chart, name=name)


def _latency(lines: Sequence[Line]) -> list[Chart]:
    """A chart for each way of loading with at least two loads."""
    ways: dict[tuple[str, int], list[Curve]] = {}
    for line in lines:
        by_way: dict[tuple[str, int], list[tuple[Workload, Measurement]]] = {}
        for one in line.measurements:
            workload = workload_of(one.configuration)
            if "p99_us" in one.figures and workload.slo is None:
                by_way.setdefault((workload.scenario, workload.rows), []).append((workload, one))
        for way, points in by_way.items():
            points.sort(key=lambda point: point[0].load)
            if way[0] in ("closed", "open", "server"):
                ways.setdefault(way, []).append(_load_curve(line, points))
    return [
        _latency_chart(scenario, rows, curves)
        for (scenario, rows), curves in ways.items()
        if any(len(curve.x) > 1 for curve in curves)
    ]


def _load_curve(line: Line, points: Sequence[tuple[Workload, Measurement]]) -> Curve:
    figures = [one.figures for _, one in points]
    return Curve(
        label=line.label,
        style=line.style,
        x=tuple(f["rows_per_s"] for f in figures),
        y=tuple(f["p50_us"] / 1e3 for f in figures),
        upper=tuple(f["p99_us"] / 1e3 for f in figures),
        notes=tuple(str(w.concurrency) if w.concurrency is not None else "" for w, _ in points),
    )


def _latency_chart(scenario: str, rows: int, curves: Sequence[Curve]) -> Chart:
    of = f", requests of {rows} rows" if rows != 1 else ""
    is_closed = scenario == "closed"
    noted = " Numbers at the points: requests in flight." if is_closed else ""
    how = "constant number in flight" if is_closed else f"{scenario} arrivals"
    return Chart(
        kind="latency",
        name="latency",
        title=f"Latency against throughput: {how}{of}",
        caption=f"Right and low is better. Solid with filled markers: p50; dashed with hollow "
        f"markers: p99.{noted}",
        summary="; ".join(
            f"{c.label}: {quantities.digits(min(c.x))} to {quantities.digits(max(c.x))} rows/s, "
            f"p50 {quantities.text('p50_us', 1e3 * min(c.y))} to "
            f"{quantities.text('p50_us', 1e3 * max(c.y))}, p99 at most "
            f"{quantities.text('p99_us', 1e3 * max(c.upper))}"
            for c in curves
        ),
        x_label="rows per second",
        y_label="milliseconds",
        curves=tuple(curves),
    )


def _batch(lines: Sequence[Line]) -> list[Chart]:
    """Throughput by rows of a request, with the least number of requests in flight."""
    curves = []
    for line in lines:
        points: dict[int, Measurement] = {}
        for one in line.measurements:
            workload = workload_of(one.configuration)
            if workload.scenario != "closed" or "rows_per_s" not in one.figures:
                continue
            known = points.get(workload.rows)
            if known is None or workload.load < workload_of(known.configuration).load:
                points[workload.rows] = one
        if len(points) > 1:
            curves.append(_batch_curve(line, points))
    if not curves:
        return []
    return [
        Chart(
            kind="batch",
            name="batch",
            title="Throughput by rows of a request",
            caption=f"The circled point is the knee: the fewest rows with {_KNEE:.0%} of the "
            "line's best throughput. Beyond it larger batches mostly add delay.",
            summary="; ".join(
                f"{c.label}: {c.mark}, best {quantities.digits(max(c.y))} rows/s" for c in curves
            ),
            x_label="rows of a request",
            y_label="rows per second",
            curves=tuple(curves),
        )
    ]


def _batch_curve(line: Line, points: dict[int, Measurement]) -> Curve:
    sizes = sorted(points)
    rates = [points[size].figures["rows_per_s"] for size in sizes]
    knee = next(i for i, rate in enumerate(rates) if rate >= _KNEE * max(rates))
    return Curve(
        label=line.label,
        style=line.style,
        x=tuple(sizes),
        y=tuple(rates),
        marked=knee,
        mark=f"knee: {sizes[knee]} rows",
    )


def _percentiles(lines: Sequence[Line]) -> list[Chart]:
    """Where several lines have the least and the most load in common, a chart of each."""
    found: dict[Workload, list[tuple[Line, Measurement]]] = {}
    for line in lines:
        for one in line.measurements:
            if any(repetition.latency.counts for repetition in one.repetitions):
                found.setdefault(workload_of(one.configuration), []).append((line, one))
    if not found:
        return []
    most = max(map(len, found.values()))
    if most == 1:
        curves = [
            _percentile_curve(str(workload), number, one)
            for number, (workload, [(_, one)]) in enumerate(_spread(found))
        ]
        return [_percentile_chart("Latency by percentile", curves)]
    shared = sorted(
        (w for w, some in found.items() if len(some) == most), key=lambda w: w.load * w.rows
    )
    return [
        _percentile_chart(
            f"Latency by percentile: {workload}",
            [_percentile_curve(line.label, line.style, one) for line, one in found[workload]],
        )
        for workload in dict.fromkeys((shared[0], shared[-1]))
    ]


def _spread(
    found: dict[Workload, list[tuple[Line, Measurement]]],
) -> list[tuple[Workload, list[tuple[Line, Measurement]]]]:
    items = sorted(found.items(), key=lambda item: (item[0].scenario, item[0].rows, item[0].load))
    if len(items) <= _MOST_CURVES:
        return items
    return [items[round(i)] for i in np.linspace(0, len(items) - 1, _MOST_CURVES)]


def _percentile_curve(label: str, style: int, one: Measurement) -> Curve:
    merged = Histogram.merged(repetition.latency for repetition in one.repetitions)
    # As far as the requests tell: ten of them are beyond the last point.
    least = max(_TAIL, 10 / max(20, merged.count))
    tails = np.geomspace(1.0, least, 120)
    values = merged.quantiles(1 - tails) / 1e3
    # Steps that are one bucket high are kept at their corners only.
    return Curve(label, style, tuple(map(float, tails)), tuple(map(float, values)))


def _percentile_chart(title: str, curves: Sequence[Curve]) -> Chart:
    return Chart(
        kind="percentiles",
        name="percentiles",
        title=title,
        caption="The share of requests that took at most so long; each step to the right is ten "
        "times rarer. A curve ends where fewer than ten requests are beyond.",
        summary="; ".join(
            f"{c.label}: from {quantities.text('p50_us', 1e3 * c.y[0])} to "
            f"{quantities.text('p50_us', 1e3 * c.y[-1])} at p{100 * (1 - c.x[-1]):.4g}"
            for c in curves
            if all(map(math.isfinite, (c.y[0], c.y[-1])))
        ),
        x_label="percentile",
        y_label="milliseconds",
        curves=tuple(curves),
    )


def _of_rows(costs: Sequence[Cost]) -> str:
    several = sorted({cost.rows for cost in costs})
    if several == [1]:
        return ""
    return f" of {' or '.join(map(str, several))} rows"


def _cost(costs: Sequence[Cost]) -> list[Chart]:
    if not costs:
        return []
    ordered = sorted(costs, key=lambda cost: cost.per_million)
    currency = costs[0].price.currency
    bars = [
        Bar(
            cost.line.label,
            cost.line.style,
            cost.per_million,
            f"{currency}{cost.per_million:.3g}",
            f"{workload_of(cost.measurement.configuration)}: "
            f"p99 {quantities.text('p99_us', cost.measurement.figures.get('p99_us', math.nan))}",
        )
        for cost in ordered
    ]
    return [
        Chart(
            kind="cost",
            name="cost",
            title=f"Cost of a million requests{_of_rows(costs)}",
            caption="At the price of an hour that was given, fully used at the measured point with "
            "the highest throughput, which is named.",
            summary="; ".join(f"{bar.label}: {bar.text} ({bar.detail})" for bar in bars),
            x_label=f"{currency or 'price'} per million requests",
            y_label="",
            bars=tuple(bars),
        )
    ]
