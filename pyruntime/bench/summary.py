"""From the repetitions of a measurement to its figures."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pyruntime.bench.figures import interval
from pyruntime.bench.results import Repetition

__all__ = ["FIGURES", "figure", "summarize"]

# Of one repetition; None where it has no such value.
Figure = Callable[[Repetition], float | None]


def _quantile(fraction: float) -> Figure:
    return lambda one: one.latency.quantile(fraction) if one.latency.counts else None


def _mean_us(one: Repetition) -> float | None:
    return one.latency.mean_us if one.latency.counts else None


def _cpu_us(one: Repetition) -> float | None:
    return 1e6 * one.cpu_s / one.requests if one.cpu_s is not None and one.requests else None


def _errors_share(one: Repetition) -> float | None:
    errors = sum(one.errors.values())
    return errors / (errors + one.requests) if errors + one.requests else None


def _batch_rows_mean(one: Repetition) -> float | None:
    if not one.batch_rows:
        return None
    runs = sum(one.batch_rows.values())
    return sum(rows * count for rows, count in one.batch_rows.items()) / runs if runs else None


def _per_s(count: int, one: Repetition) -> float | None:
    """None where the server was gone before its first answer: that took no time."""
    return count / one.seconds if one.seconds > 0 else None


def _energy_j(one: Repetition) -> float | None:
    energy_j = (one.gpu or {}).get("energy_j")
    return energy_j / one.requests if energy_j is not None and one.requests else None


def _gpu(name: str) -> Figure:
    return lambda one: (one.gpu or {}).get(name)


FIGURES: Mapping[str, Figure] = {
    "p50_us": _quantile(0.5),
    "p90_us": _quantile(0.9),
    "p99_us": _quantile(0.99),
    "p999_us": _quantile(0.999),
    "max_us": _quantile(1.0),
    "mean_us": _mean_us,
    "requests_per_s": lambda one: _per_s(one.requests, one),
    "rows_per_s": lambda one: _per_s(one.rows, one),
    "errors_share": _errors_share,
    "cpu_us_per_request": _cpu_us,
    "peak_bytes": lambda one: one.peak_bytes,
    "batch_rows_mean": _batch_rows_mean,
    "energy_j_per_request": _energy_j,
    "gpu_utilization": _gpu("utilization"),
    "gpu_memory_bytes": _gpu("memory_bytes"),
    "gpu_sm_clock_mhz": _gpu("sm_clock_mhz"),
}
"""What a measurement can say, by name: each is computed of every repetition alone."""


def figure(repetitions: Sequence[Repetition], name: str) -> list[float]:
    """One of FIGURES of each repetition that has it."""
    values = map(FIGURES[name], repetitions)
    return [float(value) for value in values if value is not None]


def summarize(
    repetitions: Sequence[Repetition],
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Medians of the repetitions by name, and where these medians lie with 95 % confidence."""
    figures, intervals = {}, {}
    for name in FIGURES:
        values = figure(repetitions, name)
        if values:
            figures[name] = float(np.median(values))
            intervals[name] = interval(np.array(values))
    return figures, intervals
