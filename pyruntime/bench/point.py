"""Measures one point of the grid: warm-up, then repetitions until the interval is narrow."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyruntime.bench.events import OnEvent, Repeated, Searched, Started
from pyruntime.bench.find_rate import Slo, find_rate
from pyruntime.bench.load.target import LoadResult, Target, Times
from pyruntime.bench.results import Configuration, Measurement, Repetition
from pyruntime.bench.steady import FEWEST, half_width, repeat_until_steady, warm_up
from pyruntime.bench.summary import FIGURES, figure, summarize
from pyruntime.bench.watch import Watch
from pyruntime.errors import Unavailable

if TYPE_CHECKING:
    from pyruntime.bench.gpu import GpuWatch
    from pyruntime.bench.load.mlperf import LoadGen

__all__ = ["How", "measure_point", "poisson_times"]

_REPETITIONS = 20  # about, where the time is used up
_REPETITION_S = (0.1, 2.0)
# Requests that a repetition holds at least, so that the quantile is one; by figure.
_REQUESTS = {"p90_us": 300, "p99_us": 2000, "p999_us": 20_000}
_FEWEST_REQUESTS = 100
_WARM_UP_SHARE = 0.25  # of the time at most
_WARM_UP_SLICES = 12
_GENERATOR_SHARE = 0.5  # from which on the generator may be what was measured
_LATE_SHARE = 0.1  # of the median latency, by which the generator may be late
_TRIES_S = 0.05  # share of the time that a rate is tried for
_MOST_ERRORS = 0.001  # share of the requests, where a rate is kept
_KEPT_UP = 0.95  # share of the intended rate, below which a queue grows


@dataclass(frozen=True, slots=True)
class How:
    """How points are measured.

    seconds: for each, with its warm-up. figure: whose interval is to be narrow, and within: how
    narrow, as a share of the median to either side.
    repetition_s: of each repetition; None: a share of the time.
    """

    seconds: float = 10.0
    figure: str = "p50_us"
    within: float = 0.03
    repetition_s: float | None = None
    seed: int = 0

    @property
    def slice_s(self) -> float:
        """Of a repetition."""
        least, most = _REPETITION_S
        return self.repetition_s or min(most, max(least, self.seconds / (1.5 * _REPETITIONS)))


# Puts the load of a configuration on its target for so long; number: of the repetition.
Send = Callable[[float, int], LoadResult]
# Told of what there is so far, to keep it.
Keep = Callable[[Measurement], None]


def measure_point(
    target: Target,
    configuration: Configuration,
    how: How,
    *,
    on_event: OnEvent,
    keep: Keep,
    slo: Slo | None = None,
    loadgen: "LoadGen | None" = None,
    gpu: "GpuWatch | None" = None,
) -> Measurement:
    """Measure it.

    keep: is called after each repetition with what there is so far.
    Raises Unavailable where there is nothing to measure: no request is answered with a result.
    """
    on_event(Started(configuration, how.seconds))
    if slo is not None and configuration.slo is not None:
        return _Search(target, configuration, how, on_event, keep, slo, gpu).measure()
    send = _sender(target, configuration, how, loadgen)
    if configuration.scenario == "offline" and how.figure.endswith("_us"):
        how = dataclasses.replace(how, figure="requests_per_s")  # the only one it is about
    point = _Point(target, configuration, how, on_event, keep, gpu, loadgen)
    return point.measure(send)


def poisson_times(rate_per_s: float, seconds: float, seed: int) -> Times:
    """When requests arrive, ns from the beginning."""
    rng = np.random.default_rng(seed)
    count = int(rate_per_s * seconds + 5 * (rate_per_s * seconds) ** 0.5 + 10)
    times = np.cumsum(rng.exponential(1e9 / rate_per_s, count))
    return np.asarray(times[times < 1e9 * seconds], np.int64)


def _sender(
    target: Target, configuration: Configuration, how: How, loadgen: "LoadGen | None"
) -> Send:
    if loadgen is not None:
        return lambda seconds, number: loadgen.run(configuration, seconds, how.seed + number)
    if configuration.rate_per_s is not None:
        return _open_sender(target, configuration.rate_per_s, how)
    in_flight = configuration.concurrency or 1
    return lambda seconds, number: target.closed(in_flight, seconds)


def _open_sender(target: Target, rate_per_s: float, how: How) -> Send:
    def send(seconds: float, number: int) -> LoadResult:
        times = poisson_times(rate_per_s, seconds, how.seed + number)
        if times.size == 0:  # slower than one in a repetition
            times = np.zeros(1, np.int64)
        return target.open(times, seconds)

    return send


class _Point:
    """One point while it is measured."""

    def __init__(
        self,
        target: Target,
        configuration: Configuration,
        how: How,
        on_event: OnEvent,
        keep: Keep,
        gpu: "GpuWatch | None",
        loadgen: "LoadGen | None" = None,
    ) -> None:
        self._target = target
        self._configuration = configuration
        self._how = how
        self._on_event = on_event
        self._keep = keep
        self._gpu = gpu
        self._loadgen = loadgen
        self._results: list[LoadResult] = []
        self._repetitions: list[Repetition] = []
        self._warnings: list[str] = []
        self._ended = ""
        self._warmup_s = 0.0
        self._number = 0
        self._per_s = 0.0
        self._slice_s = how.slice_s

    def measure(self, send: Send) -> Measurement:
        """Warm up, and repeat."""
        how = self._how
        begin = time.monotonic()
        self._warm_up(send)
        limit_s = max(0.0, how.seconds - (time.monotonic() - begin))
        from_here = time.monotonic()

        def repeat() -> Repetition | None:
            one = self._repeat(send)
            if one is not None:
                share = (time.monotonic() - from_here) / limit_s if limit_s > 0 else 1.0
                self._tell(share)
            return one

        done = repeat_until_steady(
            repeat,
            FIGURES[how.figure],
            within=how.within,
            limit_s=limit_s,
            fewest=FEWEST,
        )
        if not self._repetitions:
            raise Unavailable(self._why_nothing())
        if not done.is_steady and not self._ended:
            self._warnings.append(self._why_not_steady(done.width))
        return self._measurement(is_steady=done.is_steady, is_complete=not self._ended)

    def _warm_up(self, send: Send) -> None:
        limit_s = _WARM_UP_SHARE * self._how.seconds
        is_closed = self._configuration.rate_per_s is None

        def measure() -> float | None:
            seen = send(max(0.02, limit_s / _WARM_UP_SLICES), self._next_number())
            if seen.ended:
                raise Unavailable(seen.ended)
            if seen.requests == 0:
                return None
            self._per_s = seen.requests_per_s
            return seen.requests_per_s if is_closed else seen.latency.quantile(0.5)

        warm = warm_up(measure, limit_s=limit_s)
        self._warmup_s = warm.seconds
        if not warm.values:
            raise Unavailable(self._why_nothing())
        self._slice_s = self._slice(self._per_s)
        if not warm.is_settled:
            self._warnings.append(
                f"still changing after a warm-up of {warm.seconds:.2g} s: the machine is uneven, "
                "or more --seconds are needed"
            )

    def _slice(self, per_s: float) -> float:
        """Of a repetition: long enough for its figure, short enough to be repeated."""
        how = self._how
        if how.repetition_s is not None or not per_s:
            return how.slice_s
        needed = _REQUESTS.get(how.figure, _FEWEST_REQUESTS) / per_s
        return max(how.slice_s, min(needed, how.seconds / (FEWEST + 2)))

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _repeat(self, send: Send) -> Repetition | None:
        """None where it is over."""
        if self._ended:
            return None
        is_inproc = self._configuration.target == "inproc"
        with Watch(self._target, self._gpu, is_inproc=is_inproc) as watch:
            seen = send(self._slice_s, self._next_number())
        self._ended = seen.ended
        if seen.requests + sum(seen.errors.values()) == 0:
            return None
        self._results.append(seen)
        used = watch.used
        cpu_s = None if used.cpu_s is None else max(0.0, used.cpu_s - seen.generator_cpu_s)
        if self._configuration.target != "inproc":
            cpu_s = used.cpu_s  # of another process: the generator's is not in it
        one = Repetition(
            seconds=seen.seconds,
            requests=seen.requests,
            rows=seen.requests * self._configuration.rows,
            latency=seen.latency,
            service=seen.service,
            errors=dict(seen.errors),
            cpu_s=cpu_s,
            peak_bytes=used.peak_bytes,
            batch_rows=used.batch_rows,
            gpu=used.gpu,
            others_share=used.others_share,
        )
        self._repetitions.append(one)
        return one

    def _tell(self, share: float) -> None:
        measurement = self._measurement(is_steady=False, is_complete=False)
        self._keep(measurement)
        self._on_event(
            Repeated(
                self._configuration,
                len(self._repetitions),
                measurement.figures,
                half_width(figure(self._repetitions, self._how.figure)),
                min(1.0, share),
            )
        )

    def _measurement(self, *, is_steady: bool, is_complete: bool) -> Measurement:
        figures, ci = summarize(self._repetitions)
        share = self._generator_share()
        return Measurement(
            configuration=self._configuration,
            repetitions=tuple(self._repetitions),
            figures=figures,
            ci=ci,
            is_steady=is_steady,
            warmup_s=self._warmup_s,
            generator_share=share,
            is_complete=is_complete,
            warnings=(*self._warnings, *self._final_warnings(figures, share, is_complete)),
        )

    def _generator_share(self) -> float | None:
        configuration = self._configuration
        limit: float | None
        if self._loadgen is not None:
            limit = self._loadgen.limit(configuration)
        else:
            limit = self._target.limit(
                is_open=configuration.rate_per_s is not None,
                in_flight=configuration.concurrency or 1,
            )
        if not limit:
            return None
        return float(np.median([seen.requests_per_s for seen in self._results])) / limit

    def _final_warnings(
        self, figures: dict[str, float], share: float | None, is_complete: bool
    ) -> list[str]:
        warnings = list(dict.fromkeys(note for seen in self._results for note in seen.notes))
        if not is_complete and self._ended:
            warnings.append(f"ended early: {self._ended}")
        if share is not None and share >= _GENERATOR_SHARE:
            warnings.append(
                f"limited by the generator: it sent {share:.0%} of what it can send to a target "
                "that answers at once, so that the target may be faster than this"
            )
        if errors := figures.get("errors_share"):
            names = sorted({name for seen in self._results for name in seen.errors})
            text = next((seen.first_error for seen in self._results if seen.first_error), "")
            warnings.append(
                f"{errors:.2%} of the requests failed: {', '.join(names)}"
                + (f" ({text})" if text else "")
            )
        lags = [seen.lag.quantile(0.99) for seen in self._results if seen.lag and seen.lag.counts]
        late_us = float(np.median(lags)) if lags else 0.0
        if late_us > max(100.0, _LATE_SHARE * figures.get("p50_us", 0.0)):
            warnings.append(
                f"the generator itself was up to {late_us:.0f} us late (p99), which is in the "
                "latencies: cores of its own would help (taskset)"
            )
        rate = self._configuration.rate_per_s
        if rate is not None and (got := figures.get("requests_per_s", 0.0)) < _KEPT_UP * rate:
            warnings.append(
                f"overloaded: {got:.0f} of {rate:.0f} requests per second were answered, so that "
                "latencies grow for as long as it is measured"
            )
        return warnings

    def _why_not_steady(self, width: float) -> str:
        how = self._how
        if len(self._repetitions) < FEWEST:
            return (
                f"time ran out after {len(self._repetitions)} of the {FEWEST} repetitions that an "
                "interval needs; more --seconds would tell more"
            )
        got = f"±{width:.1%}" if width < 100 else "unknown"
        return (
            f"time ran out: {how.figure} is known to {got} after {len(self._repetitions)} "
            f"repetitions, asked for ±{how.within:.1%}; more --seconds would tell more"
        )

    def _why_nothing(self) -> str:
        if self._ended:
            return self._ended
        why = self._target.explain()
        return f"no request was answered with a result: {why or 'they were too slow'}"


class _Search:
    """The highest rate that keeps a promise, and a measurement there."""

    def __init__(
        self,
        target: Target,
        configuration: Configuration,
        how: How,
        on_event: OnEvent,
        keep: Keep,
        slo: Slo,
        gpu: "GpuWatch | None",
    ) -> None:
        self._target = target
        self._configuration = configuration
        self._how = how
        self._on_event = on_event
        self._keep = keep
        self._slo = slo
        self._gpu = gpu
        self._number = 10_000

    def measure(self) -> Measurement:
        """Search, then confirm by a whole measurement; a little lower until that keeps it."""
        capacity = self._capacity()
        rate = find_rate(self._keeps, guess=0.7 * capacity)
        if rate is None:
            raise Unavailable(
                f"slo {self._slo.text}: no rate keeps it; even the slowest that was tried had more"
            )
        for _ in range(8):
            measurement = self._confirm(rate)
            if not measurement.is_complete or self._is_kept(measurement.figures, rate):
                break
            rate *= 0.95
        else:
            raise Unavailable(f"slo {self._slo.text}: no rate keeps it for long")
        figures = {**measurement.figures, "max_rate_per_s": rate}
        # Known as well as the search went on, and no better than what was answered.
        ci = {**measurement.ci, "max_rate_per_s": (rate, rate * 1.03)}
        return dataclasses.replace(
            measurement, configuration=self._configuration, figures=figures, ci=ci
        )

    def _capacity(self) -> float:
        """Requests per second with many in flight: where the search begins."""
        seen = self._target.closed(32, max(0.1, _TRIES_S * self._how.seconds))
        if seen.ended:
            raise Unavailable(seen.ended)
        if seen.requests == 0:
            why = self._target.explain() or "they were too slow"
            raise Unavailable(f"no request was answered with a result: {why}")
        return seen.requests_per_s

    def _keeps(self, rate: float) -> bool:
        # Enough requests for its quantile, and time enough for a queue to grow.
        seconds = max(0.25, _TRIES_S * self._how.seconds, 200 / rate)
        self._number += 1
        seen = _open_sender(self._target, rate, self._how)(seconds, self._number)
        if seen.ended:
            raise Unavailable(seen.ended)
        one = Repetition(seen.seconds, seen.requests, seen.requests, seen.latency)
        figures = {name: FIGURES[name](one) for name in (self._slo.figure, "requests_per_s")}
        errors = sum(seen.errors.values())
        figures["errors_share"] = errors / max(1, errors + seen.requests)
        known = {name: value for name, value in figures.items() if value is not None}
        is_kept = self._is_kept(known, rate)
        figure_us = known.get(self._slo.figure, float("inf"))
        self._on_event(Searched(self._configuration, rate, figure_us, is_kept))
        return is_kept

    def _is_kept(self, figures: Mapping[str, float], rate: float) -> bool:
        return (
            figures.get(self._slo.figure, float("inf")) <= self._slo.limit_us
            and figures.get("errors_share", 1.0) <= _MOST_ERRORS
            and figures.get("requests_per_s", 0.0) >= 0.9 * rate
        )

    def _confirm(self, rate: float) -> Measurement:
        at = dataclasses.replace(self._configuration, rate_per_s=rate)
        how = dataclasses.replace(self._how, figure=self._slo.figure)
        point = _Point(self._target, at, how, self._on_event, self._keep, self._gpu)
        return point.measure(_open_sender(self._target, rate, how))
