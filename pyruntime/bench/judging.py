"""Whether what differs between two sides is more than chance."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyruntime.bench.conditions import Condition
from pyruntime.bench.differences import Check, Difference, Verdict
from pyruntime.bench.estimates import (
    DISTURBED,
    RUN_TO_RUN,
    Estimate,
    Run,
    combine,
    false_discovery_level,
    interval,
    ratio_of,
    tail,
)
from pyruntime.bench.matching import Place
from pyruntime.bench.quantities import is_better_higher
from pyruntime.bench.sources import Entry, Observed, Stated
from pyruntime.errors import InvalidInput

__all__ = ["check", "judge"]

_LEVEL = 0.05


def judge(
    places: Sequence[Place], figures: Sequence[str], run_to_run: float | None
) -> tuple[Difference, ...]:
    """A row for each figure that both sides have.

    run_to_run: see compare(); None: what a run that was disturbed, or not, is taken to vary by.
    """
    pairs = [
        pair
        for place in places
        for name in figures
        for pair in _pairs(place, name, run_to_run)
        # That nothing failed on both sides is not news.
        if _is_log(name) or (pair.before.mean, pair.after.mean) != (0, 0)
    ]
    level = false_discovery_level([pair.p for pair in pairs if not math.isnan(pair.p)], _LEVEL)
    return tuple(pair.difference(level) for pair in pairs)


def check(
    conditions: Sequence[Condition], places: Sequence[Place], run_to_run: float | None
) -> tuple[Check, ...]:
    """Each condition wherever it concerns. Raises InvalidInput if that is nowhere."""
    checks = [one for condition in conditions for one in _check_one(condition, places, run_to_run)]
    level = false_discovery_level([one.p for one in checks], _LEVEL)
    return tuple(
        replace(one, status="breached") if one.status == "not shown" and one.p <= level else one
        for one in checks
    )


@dataclass(frozen=True, slots=True)
class _Pair:
    """One figure at one place, on both sides; logarithms where `_is_log`."""

    place: Place
    figure: str
    side: str
    before: Estimate
    after: Estimate

    @property
    def apart(self) -> Estimate:
        return self.after.minus(self.before)

    @property
    def p(self) -> float:
        apart = self.apart
        return 2 * tail(replace(apart, mean=abs(apart.mean)))

    def difference(self, level: float) -> Difference:
        apart, p = self.apart, self.p
        is_log, is_known = _is_log(self.figure), not math.isnan(p)
        verdict: Verdict = "unknown"
        if is_known:
            verdict = _direction(self.figure, apart.mean > 0) if p <= level else "no difference"
        low, high = interval(apart, level) if is_known else (0.0, 0.0)
        return Difference(
            configuration=self.place.configuration,
            figure=self.figure,
            side=self.side,
            before=math.exp(self.before.mean) if is_log else self.before.mean,
            after=math.exp(self.after.mean) if is_log else self.after.mean,
            ratio=math.exp(apart.mean) if is_log else None,
            ci=(ratio_of(low), ratio_of(high)) if is_log and is_known else None,
            p=p if is_known else None,
            verdict=verdict,
        )


def _pairs(place: Place, name: str, run_to_run: float | None) -> list[_Pair]:
    before = _estimate(name, place.before, run_to_run)
    if before is None:
        return []
    return [
        _Pair(place, name, side, before, after)
        for side, runs in place.after.items()
        if (after := _estimate(name, runs, run_to_run)) is not None
    ]


def _estimate(name: str, runs: Sequence[Entry], run_to_run: float | None) -> Estimate | None:
    is_log = _is_log(name)
    made = [
        run
        for entry in runs
        if (observed := entry.figures.get(name)) is not None
        if (run := _run(observed, is_log)) is not None
    ]
    if run_to_run is None:
        run_to_run = DISTURBED if any(run.is_disturbed for run in runs) else RUN_TO_RUN
    return combine(made, run_to_run if is_log else 0.0) if made else None


def _is_log(figure: str) -> bool:
    """Whether it is compared by its ratio, which a figure that is often 0 has not."""
    return figure != "errors_share"


def _run(observed: Observed, is_log: bool) -> Run | None:
    """None where a figure that is compared by its ratio is 0."""
    scale: Callable[[float], float] = math.log if is_log else float
    values = [observed.value] if isinstance(observed, Stated) else list(observed)
    if is_log and min(values) <= 0:
        return None
    if not isinstance(observed, Stated) or observed.ci is None:
        return Run.of([scale(value) for value in values])
    if is_log and observed.ci[0] <= 0:
        return Run.of([scale(observed.value)])
    return Run.of_interval(scale(observed.value), *map(scale, observed.ci))


def _direction(name: str, is_more: bool) -> Verdict:
    is_better = is_better_higher(name)
    if is_better is None:
        return "higher" if is_more else "lower"
    return "better" if is_more == is_better else "worse"


def _check_one(
    condition: Condition, places: Sequence[Place], run_to_run: float | None
) -> list[Check]:
    """What is beyond the limit is "not shown" as yet."""
    is_log = _is_log(condition.figure)
    limit: Any = condition.limit
    if is_log:
        limit = math.log(limit) if limit > 0 else -math.inf
    checks = []
    for place in places:
        if not condition.concerns(place.configuration):
            continue
        for pair in _pairs(place, condition.figure, run_to_run):
            estimate = pair.apart if condition.is_ratio else pair.after
            value = math.exp(estimate.mean) if is_log else estimate.mean
            p = tail(estimate, limit)
            p = p if condition.is_above else 1 - p
            is_beyond = estimate.mean > limit if condition.is_above else estimate.mean < limit
            checks.append(
                Check(
                    condition=condition.text,
                    configuration=place.configuration,
                    figure=condition.figure,
                    side=pair.side,
                    value=value,
                    is_ratio=condition.is_ratio,
                    p=1.0 if math.isnan(p) else p,
                    status="not shown" if is_beyond else "kept",
                )
            )
        checks += _nothing_answered(condition, place)
    if not checks:
        raise InvalidInput(
            f"fail-if {condition.text!r}: expected a configuration that it concerns, with this "
            "figure on both sides, got none"
        )
    return checks


def _nothing_answered(condition: Condition, place: Place) -> list[Check]:
    """No figure since no request was answered, where the baseline's were, is a breach."""
    if condition.figure == "errors_share" or _is_dead(place.before):
        return []
    if not any(condition.figure in run.figures for run in place.before):
        return []
    return [
        Check(
            condition=condition.text,
            configuration=place.configuration,
            figure=condition.figure,
            side=side,
            value=None,
            is_ratio=condition.is_ratio,
            p=0.0,
            status="breached",
        )
        for side, runs in place.after.items()
        if _is_dead(runs)
    ]


def _is_dead(runs: Sequence[Entry]) -> bool:
    rates = [run.figures.get("requests_per_s") for run in runs]
    return all(isinstance(rate, list | tuple) and max(rate) == 0 for rate in rates)
