"""Whether the load generators measure right: a server with known delays, measured as any other.

python -P benchmarks/bench_truth.py [--seconds 8] [--within 2]

The server holds each call for the next of a list of delays, and counts for how long it really did,
so that the percentiles of what a client sees are known. Or it does nothing at all for a while in
every second; what a client sees then follows from when its calls arrive. For LoadGen, which sends
by Python, the truth is its own log. Prints a table in Markdown and a line of JSON, and fails where
a percentile is further from the truth than `--within` percent.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyruntime import _probe
from pyruntime.bench.histogram import Histogram
from pyruntime.bench.load.mlperf import LoadGen
from pyruntime.bench.load.over_grpc import OverGrpc
from pyruntime.bench.results import Configuration
from pyruntime.bench.sending import poisson_times
from pyruntime.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyruntime.bench.load.target import LoadResult

    Load = Callable[[OverGrpc, float], LoadResult]

MEDIAN_MS, SPREAD = 20.0, 0.4
STALL_S, PERIOD_S = 0.1, 1.0
PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Line:
    """One percentile. naive_us: by one caller that waits for each answer, where that misleads."""

    case: str
    percentile: float
    true_us: float
    seen_us: float
    naive_us: float | None = None

    @property
    def error(self) -> float:
        return self.seen_us / self.true_us - 1


def closed(in_flight: int) -> Load:
    return lambda target, seconds: target.closed(in_flight, seconds)


def arrivals(rate_per_s: float) -> Load:
    return lambda target, seconds: target.open(poisson_times(rate_per_s, seconds, 1), seconds)


def evenly(rate_per_s: float) -> Load:
    gap_ns = 1e9 / rate_per_s
    return lambda target, seconds: target.open(
        np.arange(0, 1e9 * seconds, gap_ns).astype(np.int64), seconds
    )


LOADS: dict[str, Load] = {
    "closed x1": closed(1),
    "closed x16": closed(16),
    "open 500/s": arrivals(500.0),
}
LOADGEN = {
    "LoadGen single-stream": Configuration("m", "grpc://", "single-stream", concurrency=1),
    "LoadGen server 200/s": Configuration("m", "grpc://", "server", rate_per_s=200.0),
}


def measure(
    load: Load, seconds: float, *, delays_ns: np.ndarray, stall_s: float = 0.0
) -> tuple[Histogram, Histogram]:
    """What the client saw, and for how long the server held the calls."""
    period_s = PERIOD_S if stall_s else 0.0
    responder = _probe.GrpcResponder(b"", delays_ns, stall_s, period_s, 0, 0)
    try:
        target = OverGrpc(responder.address, "m", b"")
        try:
            seen = load(target, seconds)
        finally:
            target.close()
        counts, least, most, total = responder.held() or ({}, 0, 0, 0)
    finally:
        responder.close()
    if seen.ended or seen.errors:
        raise Unavailable(seen.ended or str(seen.errors))
    return seen.latency, Histogram(counts, least / 1e3, most / 1e3, total / 1e3)


def delays_ns() -> np.ndarray:
    rng = np.random.default_rng(1)
    return (1e6 * MEDIAN_MS * rng.lognormal(0, SPREAD, 4096)).astype(np.int64)


def known_delays(seconds: float) -> Iterator[Line]:
    for name, load in LOADS.items():
        seen, held = measure(load, seconds, delays_ns=delays_ns())
        for percentile in PERCENTILES:
            fraction = percentile / 100
            yield Line(name, percentile, held.quantile(fraction), seen.quantile(fraction))


def loadgen(seconds: float) -> Iterator[Line]:
    for name, configuration in LOADGEN.items():
        logs = []

        def load(
            target: OverGrpc, seconds: float, of: Configuration = configuration, into: list = logs
        ) -> LoadResult:
            one = LoadGen(target)
            result = one.run(of, seconds, seed=1)
            into.append(one.log)
            return result

        try:
            seen, _ = measure(load, seconds, delays_ns=delays_ns())
        except Unavailable as error:
            print(f"{name}: not measured: {error}", file=sys.stderr)
            continue
        for percentile in PERCENTILES:
            true_us = logs[0].percentiles_us[percentile]
            yield Line(name, percentile, true_us, seen.quantile(percentile / 100))


def stalls(seconds: float) -> Iterator[Line]:
    """A tenth of all arrive in a stall, spread over it, and wait for its end."""
    at_once = np.empty(0, np.int64)
    seen, _ = measure(evenly(500.0), seconds, delays_ns=at_once, stall_s=STALL_S)
    naive, _ = measure(closed(1), seconds, delays_ns=at_once, stall_s=STALL_S)
    for percentile in (95, 99, 99.9):
        fraction = percentile / 100
        true_us = 1e6 * STALL_S * (1 - (1 - fraction) * PERIOD_S / STALL_S)
        case = f"stalls of {1e3 * STALL_S:.0f} ms, open 500/s"
        seen_us, naive_us = seen.quantile(fraction), naive.quantile(fraction)
        yield Line(case, percentile, true_us, seen_us, naive_us)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="for each of 7 measurements")
    parser.add_argument("--within", type=float, default=2.0, help="percent")
    args = parser.parse_args()
    print(
        "| load | percentile | true ms | measured ms | error | one caller that waits, ms |\n"
        "|:--|--:|--:|--:|--:|--:|"
    )
    lines = []
    for line in (*known_delays(args.seconds), *loadgen(args.seconds), *stalls(args.seconds)):
        lines.append(line)
        naive = "" if line.naive_us is None else f"{line.naive_us / 1e3:.3f}"
        print(
            f"| {line.case} | p{line.percentile:g} | {line.true_us / 1e3:.2f} | "
            f"{line.seen_us / 1e3:.2f} | {line.error:+.2%} | {naive} |",
            flush=True,
        )
    worst = max(abs(line.error) for line in lines)
    errors = {f"{line.case} p{line.percentile:g}": round(line.error, 5) for line in lines}
    print()
    print(json.dumps({"benchmark": "truth", "worst_error": round(worst, 5), "errors": errors}))
    return 0 if worst <= args.within / 100 else 1


if __name__ == "__main__":
    sys.exit(main())
