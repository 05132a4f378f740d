"""What the overhead ledger holds; docs/ledger.md says how to read it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Comparison", "Interval", "Ledger", "Skipped", "Step"]

# Bounds that hold the true median with 95 % confidence.
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Step:
    """One way of calling the model, with so many requests in flight.

    name: "C Run", "InferenceSession.run", "core", "Model.infer", "infer_async", "gRPC unix" or
    "gRPC tcp".
    in_flight: requests at once. The two bare engines then run batches instead.
    p50_us: of a request (of a run, for the bare engines), the median of the turns' medians.
    p99_us: over the requests of all turns.
    rows_per_s: the median of the turns.
    ratio_to_run: rows_per_s as a share of C Run's in the same turn; 1.0 is the engine alone.
    us_per_request: elapsed time by requests. With one in flight this is the mean time of one.
    delta_us: us_per_request beyond the step before, None for the first.
    ci: 95 % intervals of p50_us, rows_per_s, ratio_to_run and delta_us.
    parts: microseconds of us_per_request by what they were spent on, and `queue`, which with
    more than one in flight passes while others run and is not in the sum.
    """

    name: str
    in_flight: int
    p50_us: float
    p99_us: float
    rows_per_s: float
    ratio_to_run: float
    us_per_request: float
    delta_us: float | None
    ci: Mapping[str, Interval]
    parts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A step that was not measured, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two steps with one request in flight beside each other, by p50 within each turn."""

    name: str
    value: float
    ci: Interval


@dataclass(frozen=True, slots=True)
class Ledger:
    """The result of `overhead`.

    steps: by number in flight, and then in the order of the way that a request goes.
    comparisons: "infer_to_python_run" (a ratio) and "core_minus_run_us".
    best_run_rows: by number in flight, rows of the batch that the bare engines ran.
    differences: outputs that were not those of C Run; empty when all agree.
    warnings: what the reader has to know about these figures.
    turns: in which every step was measured once; slice_ms: for how long each time, at least.
    fingerprint: of the machine, the libraries, the model and its options.
    """

    steps: tuple[Step, ...]
    skipped: tuple[Skipped, ...]
    comparisons: tuple[Comparison, ...]
    best_run_rows: Mapping[int, int]
    differences: tuple[str, ...]
    warnings: tuple[str, ...]
    turns: int
    slice_ms: float
    fingerprint: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As plain values for a JSON encoder."""
        return dataclasses.asdict(self)
