"""What `bench run` measures and `compare`, `report` and `tune` read; written as one JSON file.

Times are microseconds, sizes bytes, rates per second. A result holds the figures of every
repetition, so that whoever compares two results can resample them.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "SCHEMA",
    "Configuration",
    "Histogram",
    "Measurement",
    "Repetition",
    "Results",
    "Skipped",
]

SCHEMA = "pyruntime-bench/1"
"""The first key of every file: another number where the meaning of a field changes."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """One point of the grid: all that was chosen, so that equal ones can be compared.

    model: its name; target: "inproc" or "grpc://HOST:PORT".
    device, provider, threads, instances, max_rows: of the model; None where the target is a
    server that does not say.
    rows: of each request.
    scenario: "closed", "single-stream", "multi-stream", "server" or "offline".
    concurrency: requests in flight, None where arrivals decide.
    rate_per_s: intended arrivals, None where answers decide.
    generator: what sent the requests, "own" or "loadgen".
    """

    model: str
    target: str
    scenario: str
    rows: int = 1
    device: str | None = None
    provider: str | None = None
    threads: int | None = None
    instances: int | None = None
    max_rows: int | str | None = None
    concurrency: int | None = None
    rate_per_s: float | None = None
    generator: str = "own"


@dataclass(frozen=True, slots=True)
class Histogram:
    """Latencies in buckets of equal relative width (1/128): any quantile, within 1 %.

    counts: by index of the bucket, those that are not empty; see pyruntime.bench.histogram.
    """

    counts: Mapping[int, int]
    min_us: float
    max_us: float
    sum_us: float


@dataclass(frozen=True, slots=True)
class Repetition:
    """One of the runs of a measurement, after warm-up.

    seconds: that it took; requests: answered with a result in that time; rows: of these.
    errors: requests by the name of their error ("Overloaded", "DeadlineExceeded").
    latency: of the answered, from the intended send time where arrivals are intended.
    service: the same from the real send time, None where that is the same.
    cpu_s: processor time of the process that serves, None where it is not on this machine.
    peak_bytes: of its resident memory.
    batch_rows: runs of the engine by their rows, None where the server does not say.
    gpu: "utilization", "memory_bytes", "sm_clock_mhz", "energy_j"; None without one.
    """

    seconds: float
    requests: int
    rows: int
    latency: Histogram
    service: Histogram | None = None
    errors: Mapping[str, int] = field(default_factory=dict)
    cpu_s: float | None = None
    peak_bytes: int | None = None
    batch_rows: Mapping[int, int] | None = None
    gpu: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured at one point of the grid.

    repetitions: at least one. figures: by name ("p50_us", "p90_us", "p99_us", "p999_us",
    "max_us", "mean_us", "requests_per_s", "rows_per_s", "cpu_us_per_request", "errors_share",
    "energy_j_per_request" and so on): the median of the repetitions.
    ci: where that median lies with 95 % confidence, by name.
    is_steady: the interval asked for was reached in time; if not, `warnings` says how far it got.
    generator_share: of the load generator's own limit that was used; from 0.5 on, what was
    measured may be the generator and `warnings` says so. None where that was not measured.
    warmup_s: that passed before the first repetition.
    is_complete: false where the measurement ended early (a server that died): what is here is
    what there was until then.
    """

    configuration: Configuration
    repetitions: tuple[Repetition, ...]
    figures: Mapping[str, float]
    ci: Mapping[str, tuple[float, float]]
    is_steady: bool
    warmup_s: float
    generator_share: float | None = None
    is_complete: bool = True
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Skipped:
    """A point of the grid that was not measured, and why."""

    configuration: Configuration
    reason: str


@dataclass(frozen=True, slots=True)
class Results:
    """One file.

    created: ISO 8601, UTC. command: as it was given.
    fingerprint: machine, software, model (file, sha256, opset, parameters, FLOPs) and options.
    warnings: of the checks of the environment before the first measurement.
    """

    created: str
    command: tuple[str, ...]
    fingerprint: Mapping[str, Any]
    measurements: tuple[Measurement, ...]
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain values for a JSON encoder; from_json() of pyruntime.bench.files reads them."""
        return {"schema": SCHEMA, **dataclasses.asdict(self)}
