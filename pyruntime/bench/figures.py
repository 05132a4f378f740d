"""From slices of time to figures with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyruntime.bench.ledger import Comparison, Interval, Step

__all__ = ["Slice", "Turn", "compare", "make_steps"]

_RESAMPLES = 1000
_KEPT_TIMES = 4096  # of a slice, for the quantiles
# With fewer values the bootstrap knows too little, and the extremes are said instead.
_FEWEST_TO_RESAMPLE = 6


@dataclass(frozen=True, slots=True)
class Slice:
    """One step, measured once.

    requests: that were done, and elapsed_ns: in which time.
    times_ns: of each request or of a sample of them.
    parts_us: of a request, what is known of its time; with `queue`, see Step.parts.
    rest: the name of what is left of its time.
    """

    requests: int
    elapsed_ns: int
    times_ns: np.ndarray[Any, np.dtype[np.int64]]
    parts_us: Mapping[str, float]
    rest: str

    @property
    def us(self) -> float:
        """Of one request."""
        return self.elapsed_ns / self.requests / 1e3

    @property
    def p50_us(self) -> float:
        """Of one request."""
        return float(np.median(self.times_ns)) / 1e3

    def thinned(self) -> "Slice":
        """With no more times than quantiles need."""
        times = self.times_ns[:: len(self.times_ns) // _KEPT_TIMES + 1].copy()
        return Slice(self.requests, self.elapsed_ns, times, self.parts_us, self.rest)


# By name of the step and number in flight.
Turn = Mapping[tuple[str, int], Slice]


def make_steps(
    turns: Sequence[Turn], names: Sequence[str], in_flight: int, rows: int
) -> list[Step]:
    """Figures of the steps called `names`, of which the first is the bare engine."""
    steps: list[Step] = []
    bare = [turn[names[0], in_flight] for turn in turns]
    before: list[Slice] | None = None
    for name in names:
        slices = [turn[name, in_flight] for turn in turns]
        figures = {
            "p50_us": np.array([one.p50_us for one in slices]),
            "rows_per_s": np.array([1e6 * rows / one.us for one in slices]),
            "ratio_to_run": np.array([b.us / one.us for b, one in zip(bare, slices, strict=True)]),
        }
        if before is not None:
            pairs = zip(before, slices, strict=True)
            figures["delta_us"] = np.array([one.us - last.us for last, one in pairs])
        medians = {key: float(np.median(values)) for key, values in figures.items()}
        times = np.concatenate([one.times_ns for one in slices])
        steps.append(
            Step(
                name=name,
                in_flight=in_flight,
                p50_us=medians["p50_us"],
                p99_us=float(np.quantile(times, 0.99)) / 1e3,
                rows_per_s=medians["rows_per_s"],
                ratio_to_run=medians["ratio_to_run"],
                us_per_request=float(np.median([one.us for one in slices])),
                delta_us=medians.get("delta_us"),
                ci={key: interval(values) for key, values in figures.items()},
                parts=_parts(turns, name, in_flight),
            )
        )
        before = slices
    return steps


def interval(values: np.ndarray[Any, Any]) -> Interval:
    """Where the median lies, with 95 % confidence: by bootstrap over turns."""
    if len(values) < _FEWEST_TO_RESAMPLE:
        return float(values.min()), float(values.max())
    rng = np.random.default_rng(0)
    medians = np.median(values[rng.integers(0, len(values), (_RESAMPLES, len(values)))], axis=1)
    low, high = np.quantile(medians, (0.025, 0.975))
    return float(low), float(high)


def compare(
    name: str, turns: Sequence[Turn], one: str, other: str, *, as_ratio: bool
) -> Comparison:
    """Divide the p50 of `one` by that of `other`, or subtract it; with one in flight."""
    pairs = [(turn[one, 1].p50_us, turn[other, 1].p50_us) for turn in turns]
    values = np.array([a / b if as_ratio else a - b for a, b in pairs])
    return Comparison(name, float(np.median(values)), interval(values))


def _parts(turns: Sequence[Turn], name: str, in_flight: int) -> dict[str, float]:
    """Medians over turns of what was known, and of what is left."""
    slices = [turn[name, in_flight] for turn in turns]
    # What the core itself does beside the steps that it counts, seen where nothing else is there.
    has_core = slices[0].rest in ("binding", "transport") and "gather" in slices[0].parts_us
    known: list[dict[str, float]] = []
    for turn, one in zip(turns, slices, strict=True):
        parts = dict(one.parts_us)
        if has_core:
            core = turn["core", in_flight]
            parts["scheduling"] = core.us - _sum(core.parts_us, in_flight)
        parts.setdefault("run", turn["C Run", in_flight].us)
        known.append(parts)
    medians = {key: float(np.median([parts[key] for parts in known])) for key in known[0]}
    if slices[0].rest:
        left = [s.us - _sum(p, in_flight) for s, p in zip(slices, known, strict=True)]
        rest = float(np.median(left))
        # Less than nothing is left where two threads worked at the same time.
        medians["overlap" if rest < 0 and in_flight > 1 else slices[0].rest] = rest
    return medians


def _sum(parts: Mapping[str, float], in_flight: int) -> float:
    return sum(us for name, us in parts.items() if in_flight == 1 or name != "queue")
