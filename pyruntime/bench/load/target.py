"""What load is put on, and what a generator saw of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pyruntime.bench.histogram import Histogram

if TYPE_CHECKING:
    from pyruntime import _probe

__all__ = ["LoadResult", "OnDone", "Target", "Times", "Usage", "from_native"]

# Nanoseconds from the beginning at which requests are meant to be sent, ascending.
Times = np.ndarray[Any, np.dtype[np.int64]]

# Called once, from any thread, with the name of the request's error or None.
OnDone = Callable[[str | None], None]


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What a generator saw of the requests that it sent.

    seconds: that it took. requests: answered with a result.
    latency: of these, from the intended send time where there was one; service: from the real
    one. lag: how late all were sent. None where no time was intended.
    errors: requests that failed or were refused, by the name of the error.
    generator_cpu_s: of threads that only generate.
    first_error: its message, where it is known. ended: why it ended before its time.
    notes: of the generator, for who reads the figures.
    """

    seconds: float
    requests: int
    latency: Histogram
    service: Histogram | None = None
    lag: Histogram | None = None
    errors: Mapping[str, int] = field(default_factory=dict)
    generator_cpu_s: float = 0.0
    first_error: str = ""
    ended: str = ""
    notes: tuple[str, ...] = ()

    @property
    def requests_per_s(self) -> float:
        """Answered with a result."""
        return self.requests / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Usage:
    """Of what serves, since it began. cpu_s: processor time; resident_bytes: now; None: unknown."""

    cpu_s: float | None = None
    resident_bytes: int | None = None


class Target(Protocol):
    """One model, and the request that is sent to it.

    Threads: one user at a time; submit() from any.
    """

    def closed(self, in_flight: int, seconds: float) -> LoadResult:
        """Keep so many requests in flight for so long, then wait for them."""

    def open(self, times_ns: Times, seconds: float) -> LoadResult:
        """Send requests at these times whether or not others are answered."""

    def submit(self, on_done: OnDone) -> None:
        """Start one request."""

    def limit(self, *, is_open: bool, in_flight: int) -> float | None:
        """Requests per second that its generator sends to what answers at once; None: unknown."""

    def usage(self) -> Usage:
        """Of the process that serves."""

    def batches(self) -> Mapping[int, int] | None:
        """Runs of the engine so far by their rows; None where the server does not say."""

    def explain(self) -> str:
        """What one request fails with now; empty if it does not."""

    def close(self) -> None:
        """Give back what it holds."""


def from_native(seen: "_probe._LoadResult") -> LoadResult:
    """What csrc/probe saw."""
    return LoadResult(
        seconds=seen["elapsed_ns"] / 1e9,
        requests=seen["requests"],
        latency=_histogram(seen["latency"]) or Histogram.of_ns([]),
        service=_histogram(seen["service"]),
        lag=_histogram(seen["lag"]),
        errors=seen["errors"],
        generator_cpu_s=seen["generator_cpu_ns"] / 1e9,
        first_error=seen["first_error"],
        ended=seen["ended"],
    )


def _histogram(native: tuple[Mapping[int, int], int, int, int] | None) -> Histogram | None:
    if native is None:
        return None
    counts, least, most, total = native
    return Histogram(counts, least / 1e3, most / 1e3, total / 1e3)
