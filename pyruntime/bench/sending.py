"""Puts the load of a configuration on a target."""

from collections.abc import Callable

import numpy as np

from pyruntime.bench.how import Point
from pyruntime.bench.load.target import LoadResult, Target, Times

__all__ = ["Send", "arrivals", "poisson_times", "sender"]

# For so many seconds; number: of the repetition.
Send = Callable[[float, int], LoadResult]


def poisson_times(rate_per_s: float, seconds: float, seed: int) -> Times:
    """When requests arrive, ns from the beginning."""
    rng = np.random.default_rng(seed)
    count = int(rate_per_s * seconds + 5 * (rate_per_s * seconds) ** 0.5 + 10)
    times = np.cumsum(rng.exponential(1e9 / rate_per_s, count))
    return np.asarray(times[times < 1e9 * seconds], np.int64)


def sender(point: Point) -> Send:
    """What sends the load of its configuration."""
    target, configuration, seed = point.target, point.configuration, point.how.arrivals_seed
    loadgen = point.loadgen
    if loadgen is not None:
        return lambda seconds, number: loadgen.run(configuration, seconds, seed + number)
    if configuration.rate_per_s is not None:
        return arrivals(target, configuration.rate_per_s, seed)
    in_flight = configuration.concurrency or 1
    return lambda seconds, number: target.closed(in_flight, seconds)


def arrivals(target: Target, rate_per_s: float, seed: int) -> Send:
    """What sends at that rate, at other times in each repetition."""

    def send(seconds: float, number: int) -> LoadResult:
        times = poisson_times(rate_per_s, seconds, seed + number)
        if times.size == 0:  # slower than one in a repetition
            times = np.zeros(1, np.int64)
        return target.open(times, seconds)

    return send
