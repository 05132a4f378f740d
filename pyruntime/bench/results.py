"""What `bench run` measures and `compare`, `report` and `tune` read; written as one JSON file.

Times are microseconds, sizes bytes, rates per second. A result holds the figures of every
repetition, so that whoever compares two results can resample them.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyruntime.bench.histogram import Histogram

__all__ = [
    "SCENARIOS",
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


SCENARIOS = ("closed", "open", "single-stream", "multi-stream", "server", "offline")
"""Those of this package, and from the third on those of MLPerf, sent by MLCommons' LoadGen."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """One point of the grid: all that was chosen, so that equal ones can be compared.

    model: its name. target: "inproc", "grpc://HOST:PORT", "grpc://unix:PATH", or what a client
    of another protocol calls its server.
    device, provider, threads, instances, max_rows: of the model; None where the target is a
    server that does not say.
    rows: of each request.
    scenario: one of SCENARIOS.
    concurrency: requests in flight ("closed", "single-stream"); samples of a query
    ("multi-stream"); None where arrivals decide.
    rate_per_s: intended arrivals ("open", "server"), None where answers decide and where the
    rate was searched for.
    slo: as "p99=10ms" where the highest rate was searched for that keeps it. The measurement is
    then at that rate, its figure "max_rate_per_s".
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
    slo: str | None = None


@dataclass(frozen=True, slots=True)
class Repetition:
    """One of the runs of a measurement, after warm-up.

    seconds: that it took; requests: answered with a result; rows: of these.
    errors: requests by the name of their error ("Overloaded", "DeadlineExceeded").
    latency: of the answered, from the intended send time where arrivals are intended.
    service: the same from the real send time, None where that is the same or unknown.
    cpu_s: processor time of the process that serves, None where it is not on this machine.
    peak_bytes: of its resident memory.
    batch_rows: runs of the engine by their rows, None where the server does not say.
    gpu: "utilization", "memory_bytes", "sm_clock_mhz", "energy_j"; None without one.
    round: the number of the process that measured it, where there were several.
    others_share: of all processors of this machine, what neither the generator nor the server used
    but others; None where that is unknown.
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
    others_share: float | None = None
    round: int = 1


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured at one point of the grid.

    repetitions: at least one.
    figures: by name ("p50_us", "p90_us", "p99_us", "p999_us", "max_us", "mean_us",
    "requests_per_s", "rows_per_s", "cpu_us_per_request", "errors_share", "batch_rows_mean",
    "energy_j_per_request" and so on): the median of the repetitions; see
    pyruntime.bench.summary, which computes them. One that has no value, such as a latency
    where nothing was answered, is absent.
    ci: where that median lies with 95 % confidence, by name; as pyruntime.bench.figures.interval.
    is_steady: the interval asked for was reached in time; if not, `warnings` says how far it got.
    generator_share: of the load generator's own limit that was used; from 0.5 on, what was
    measured may be the generator and `warnings` says so. None where that was not measured.
    warmup_s: that passed before the first repetition.
    rounds: where several processes measured it, the figures of each by its number; `figures` are
    then their means, and `ci` knows what changes from one to the next.
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
    rounds: Mapping[int, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A point of the grid that was not measured, and why."""

    configuration: Configuration
    reason: str


@dataclass(frozen=True, slots=True)
class Results:
    """One file.

    created: ISO 8601, UTC. command: as it was given.
    fingerprint: "machine" (cpu, cores, memory_bytes, gpu, kernel and so on), "versions" by
    library, "models" by name (file, sha256, size_bytes, opset, parameters,
    flops_per_request, inputs, outputs; None where unknown), "server" (name, version, extensions;
    None in process), "request" (shapes by model, seed, source of the values) and "options" (how
    was measured).
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
