"""Measures one point with one load: warm-up, then repetitions until the interval is narrow."""

import time
from typing import TYPE_CHECKING

import numpy as np

from pyruntime.bench.cautions import cautions
from pyruntime.bench.events import Repeated
from pyruntime.bench.how import Point
from pyruntime.bench.results import Measurement, Repetition
from pyruntime.bench.sending import Send
from pyruntime.bench.steady import FEWEST, half_width, repeat_until_steady, warm_up
from pyruntime.bench.summary import FIGURES, figure, summarize
from pyruntime.bench.watch import Watch
from pyruntime.errors import Unavailable

if TYPE_CHECKING:
    from pyruntime.bench.load.target import LoadResult

__all__ = ["Repeating"]

# Requests that a repetition holds at least, so that the quantile is one; by figure.
_REQUESTS = {"p90_us": 300, "p99_us": 2000, "p999_us": 20_000}
_FEWEST_REQUESTS = 100
_WARM_UP_SHARE = 0.25  # of the time at most
_WARM_UP_SLICES = 12


class Repeating:
    """A point while it is repeated. measure() is called once."""

    def __init__(self, point: Point) -> None:
        self._target = point.target
        self._configuration = point.configuration
        self._how = point.how
        self._point = point
        self._results: list[LoadResult] = []
        self._repetitions: list[Repetition] = []
        self._warnings: list[str] = []
        self._ended = ""
        self._warmup_s = 0.0
        self._number = 0
        self._per_s = 0.0
        self._slice_s = point.how.slice_s

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
        with Watch(self._target, self._point.gpu, is_inproc=is_inproc) as watch:
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
        self._point.keep(measurement)
        self._point.on_event(
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
            warnings=(
                *self._warnings,
                *cautions(
                    self._configuration,
                    self._results,
                    figures,
                    share,
                    "" if is_complete else self._ended,
                ),
            ),
        )

    def _generator_share(self) -> float | None:
        configuration = self._configuration
        limit: float | None
        if self._point.loadgen is not None:
            limit = self._point.loadgen.limit(configuration)
        else:
            limit = self._target.limit(
                is_open=configuration.rate_per_s is not None,
                in_flight=configuration.concurrency or 1,
            )
        if not limit:
            return None
        return float(np.median([seen.requests_per_s for seen in self._results])) / limit

    def _why_not_steady(self, width: float) -> str:
        how, count = self._how, len(self._repetitions)
        if not figure(self._repetitions, how.figure):
            return f"{how.figure} could not be measured here, so that its interval is not known"
        if count < FEWEST:
            return (
                f"time ran out after {count} of the {FEWEST} repetitions that an interval takes; "
                "more --seconds would tell more"
            )
        if width == float("inf"):
            return f"time ran out: {how.figure} is mostly 0, of which no share can be known"
        return (
            f"time ran out: {how.figure} is known to ±{width:.1%} after {count} repetitions, "
            f"asked for ±{how.within:.1%}; more --seconds would tell more"
        )

    def _why_nothing(self) -> str:
        if self._ended:
            return self._ended
        why = self._target.explain()
        return f"no request was answered with a result: {why or 'they were too slow'}"
