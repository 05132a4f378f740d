"""The highest rate of arrivals that a target keeps a promise at, and what it is like there."""

import dataclasses
from collections.abc import Mapping

from pyruntime.bench.events import Searched
from pyruntime.bench.find_rate import Slo, find_rate
from pyruntime.bench.how import Point
from pyruntime.bench.repeating import Repeating
from pyruntime.bench.results import Measurement, Repetition
from pyruntime.bench.sending import arrivals
from pyruntime.bench.summary import FIGURES
from pyruntime.errors import Unavailable

__all__ = ["Search"]

_TRIES_S = 0.05  # share of the time that a rate is tried for
_MOST_ERRORS = 0.001  # share of the requests, where a rate is kept


class Search:
    """The highest rate that keeps a promise, and a measurement there."""

    def __init__(self, point: Point, slo: Slo) -> None:
        self._point = point
        self._target = point.target
        self._configuration = point.configuration
        self._how = point.how
        self._slo = slo
        self._number = 10_000  # of a repetition, beyond those of the confirmation

    def measure(self) -> Measurement:
        """Search, then confirm by a whole measurement; a little lower until that keeps it."""
        capacity = self._capacity()
        rate = find_rate(self._keeps, guess=0.7 * capacity)
        if rate is None:
            raise Unavailable(
                f"slo {self._slo.text}: no rate keeps it; even the slowest that was tried had more"
            )
        for failed in range(1, 9):
            measurement = self._confirm(rate)
            if not measurement.is_complete or self._is_kept(measurement.figures, rate):
                break
            rate *= 1 - 0.05 * failed  # the further, the less it resembles the search
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
        seen = arrivals(self._target, rate, self._how.arrivals_seed)(seconds, self._number)
        if seen.ended:
            raise Unavailable(seen.ended)
        one = Repetition(seen.seconds, seen.requests, seen.requests, seen.latency)
        figures = {name: FIGURES[name](one) for name in (self._slo.figure, "requests_per_s")}
        errors = sum(seen.errors.values())
        figures["errors_share"] = errors / max(1, errors + seen.requests)
        known = {name: value for name, value in figures.items() if value is not None}
        is_kept = self._is_kept(known, rate)
        figure_us = known.get(self._slo.figure, float("inf"))
        self._point.on_event(Searched(self._configuration, rate, figure_us, is_kept))
        return is_kept

    def _is_kept(self, figures: Mapping[str, float], rate: float) -> bool:
        return (
            figures.get(self._slo.figure, float("inf")) <= self._slo.limit_us
            and figures.get("errors_share", 1.0) <= _MOST_ERRORS
            and figures.get("requests_per_s", 0.0) >= 0.9 * rate
        )

    def _confirm(self, rate: float) -> Measurement:
        point = dataclasses.replace(
            self._point,
            configuration=dataclasses.replace(self._configuration, rate_per_s=rate),
            how=dataclasses.replace(self._how, figure=self._slo.figure),
        )
        return Repeating(point).measure(arrivals(self._target, rate, self._how.arrivals_seed))
