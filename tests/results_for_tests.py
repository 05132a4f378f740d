"""Results of `bench run` as it would write them, from numbers that a test chooses."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from pyruntime.bench.histogram import Histogram
from pyruntime.bench.results import Configuration, Measurement, Repetition, Results
from pyruntime.bench.summary import summarize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FINGERPRINT: dict[str, Any] = {
    "machine": {"cpu": "Example 3000", "cores": 8, "load_1min": 0.1, "memory_bytes": 2**34},
    "versions": {"python": "3.11.2", "onnxruntime": "1.24.0"},
    "models": {"mlp": {"file": "mlp.onnx", "sha256": "ab" * 32}},
    "request": {"seed": 0},
}


def repetition(
    median_us: float, *, concurrency: int = 1, rows: int = 1, errors: int = 0, spread: float = 0.1
) -> Repetition:
    """2,000 requests whose latencies are lognormal; every quantile scales with the median."""
    ranks = (np.arange(2000) + 0.5) / 2000
    normal = np.array([NormalDist().inv_cdf(rank) for rank in ranks])
    times_us = median_us * np.exp(spread * normal)
    requests = len(times_us)
    seconds = float(times_us.sum()) / 1e6 / concurrency
    return Repetition(
        seconds=seconds,
        requests=requests,
        rows=rows * requests,
        latency=Histogram.of_ns((1e3 * times_us).astype(np.int64)),
        errors={"Overloaded": errors} if errors else {},
        cpu_s=seconds * 0.9,
    )


def measurement(
    medians_us: Sequence[float],
    *,
    errors: int = 0,
    spread: float = 0.1,
    is_complete: bool = True,
    warnings: tuple[str, ...] = (),
    **configuration: Any,
) -> Measurement:
    """One point of the grid, a repetition for each median."""
    fields = {"model": "mlp", "target": "inproc", "scenario": "closed", "device": "cpu"}
    made = Configuration(**{**fields, "concurrency": 1, **configuration})
    repetitions = tuple(
        repetition(
            median,
            concurrency=made.concurrency or 1,
            rows=made.rows,
            errors=errors,
            spread=spread,
        )
        for median in medians_us
    )
    figures, ci = summarize(repetitions)
    return Measurement(
        made, repetitions, figures, ci, True, 0.5, is_complete=is_complete, warnings=warnings
    )


def results(
    *measurements: Measurement, fingerprint: Mapping[str, Any] = FINGERPRINT, **fields: Any
) -> Results:
    """One file."""
    return Results("2026-11-25T00:00:00Z", ("bench", "run"), fingerprint, measurements, **fields)


def noisy(rng: np.random.Generator, median_us: float, *, count: int = 10, sd: float = 0.01) -> Any:
    """Medians of so many repetitions around one."""
    return median_us * np.exp(rng.normal(0, sd, count))
