"""Measures a way of calling a model and Python's InferenceSession.run in turns.

Before every round of the one comes a round of the other, so that the machine's moods hit both.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 41
ROUND_S = 0.01  # about


@dataclass(frozen=True)
class Figure:
    """One line of the table; microseconds per request, medians of rounds.

    run_us: Python's run of one row. c_run_us: C Run of one row; c_batched_us: a row of the best
    batched C Run; None: bench_scheduler was not built.
    """

    model: str
    way: str
    us: float
    run_us: float
    c_run_us: float | None
    c_batched_us: float | None


@dataclass(frozen=True)
class FloorFigure:
    """A floor by itself, and its reference; nanoseconds, medians of rounds."""

    floor: str
    ns: float
    reference: str
    reference_ns: float


class SideBySide:
    """Measures into pytest-benchmark's figures, and into the table at the end."""

    def __init__(self, benchmark: Any, bench_model: Any, figures: list[Figure]) -> None:
        self._benchmark = benchmark
        self._bench_model = bench_model
        self._figures = figures

    def measure(self, way: str, call: Callable[[], object], *, requests: int = 1) -> None:
        """Measure `call`, which does `requests` requests of one row."""
        session, row = self._bench_model.session, self._bench_model.row
        names = [output.name for output in session.get_outputs()]

        def run() -> None:
            session.run(names, row)

        runs, calls = _per_round(run), _per_round(call)
        run_us: list[float] = []

        def round_of_runs() -> None:
            run_us.append(1e6 * _seconds(run, runs) / runs)

        def round_of_calls() -> None:
            for _ in range(calls):
                call()

        benchmark = self._benchmark
        benchmark.group = self._bench_model.name
        benchmark.pedantic(round_of_calls, setup=round_of_runs, rounds=ROUNDS, warmup_rounds=2)
        if benchmark.disabled:
            return
        bare = self._bench_model.bare
        figure = Figure(
            model=self._bench_model.name,
            way=way,
            us=1e6 * benchmark.stats.stats.median / calls / requests,
            run_us=median(run_us),
            c_run_us=bare and bare["c_run_us"],
            c_batched_us=bare and 1e6 / bare["best_run_rows_per_s"],
        )
        self._figures.append(figure)
        benchmark.extra_info |= {
            "requests_per_round": calls * requests,
            "us_per_request": figure.us,
            "python_run_us": figure.run_us,
            "c_run_us": figure.c_run_us,
            "bench_scheduler": bare,
        }


def _seconds(call: Callable[[], object], times: int) -> float:
    begin = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - begin


def _per_round(call: Callable[[], object]) -> int:
    """How many calls take about a round's time."""
    _seconds(call, 8)
    return max(1, int(8 * ROUND_S / _seconds(call, 8)))


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def table(figures: list[Figure]) -> str:
    """Lay out figures as text."""
    header = ("model", "way", "requests/s", "us")
    header += ("Python run", "ratio", "C Run", "ratio", "batched C", "ratio")
    rows = [header]
    for figure in figures:
        cells = [figure.model, figure.way, f"{1e6 / figure.us:.0f}", f"{figure.us:.2f}"]
        for reference in (figure.run_us, figure.c_run_us, figure.c_batched_us):
            if reference is None:
                cells += ["not built", "-"]
            else:
                cells += [f"{reference:.2f}", _ratio(figure.us / reference)]
        rows.append(tuple(cells))
    return _aligned(rows, left=2)


def floor_table(figures: list[FloorFigure]) -> str:
    """Lay out floors as text."""
    rows = [("floor", "reference", "ns", "reference ns", "ratio")]
    for figure in figures:
        ns, reference_ns = f"{figure.ns:.1f}", f"{figure.reference_ns:.1f}"
        ratio = _ratio(figure.ns / figure.reference_ns)
        rows.append((figure.floor, figure.reference, ns, reference_ns, ratio))
    return _aligned(rows, left=2)


def _aligned(rows: list[tuple[str, ...]], *, left: int) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        start = [cell.ljust(width) for cell, width in zip(row[:left], widths[:left], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[left:], widths[left:], strict=True)]
        lines.append("  ".join((*start, *right)))
    return "\n".join(lines)
