"""What a reader of a measurement's figures has to know about them."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pyruntime.bench.load.target import LoadResult
from pyruntime.bench.results import Configuration

__all__ = ["cautions"]

_GENERATOR_SHARE = 0.5  # from which on the generator may be what was measured
_LATE_US = 100.0
_LATE_SHARE = 0.1  # of the median latency, by which the generator may be late
_KEPT_UP = 0.95  # share of the intended rate, below which a queue grows


def cautions(
    configuration: Configuration,
    results: Sequence[LoadResult],
    figures: Mapping[str, float],
    generator_share: float | None,
    ended: str,
) -> list[str]:
    """Warnings, of which each says what it means for the figures.

    ended: why it ended early, empty if it did not.
    """
    lines = list(dict.fromkeys(note for seen in results for note in seen.notes))
    if ended:
        lines.append(f"ended early: {ended}")
    if generator_share is not None and generator_share >= _GENERATOR_SHARE:
        lines.append(
            f"limited by the generator: it sent {generator_share:.0%} of what it can send to a "
            "target that answers at once, so that the target may be faster than this"
        )
    lines += _failures(results, figures)
    lines += _lateness(results, figures)
    rate = configuration.rate_per_s
    if rate is not None and (got := figures.get("requests_per_s", 0.0)) < _KEPT_UP * rate:
        lines.append(
            f"overloaded: {got:.0f} of {rate:.0f} requests per second were answered, so that "
            "latencies grow for as long as it is measured"
        )
    return lines


def _failures(results: Sequence[LoadResult], figures: Mapping[str, float]) -> Iterator[str]:
    if errors := figures.get("errors_share"):
        names = sorted({name for seen in results for name in seen.errors})
        text = next((seen.first_error for seen in results if seen.first_error), "")
        reason = f" ({text})" if text else ""
        yield f"{errors:.2%} of the requests failed: {', '.join(names)}{reason}"


def _lateness(results: Sequence[LoadResult], figures: Mapping[str, float]) -> Iterator[str]:
    lags = [seen.lag.quantile(0.99) for seen in results if seen.lag and seen.lag.counts]
    late_us = float(np.median(lags)) if lags else 0.0
    if late_us > max(_LATE_US, _LATE_SHARE * figures.get("p50_us", 0.0)):
        yield (
            f"the generator itself was up to {late_us:.0f} us late (p99), which is in the "
            "latencies: cores of its own would help (taskset)"
        )
