"""Several rounds of the same plan, as one result."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pyruntime.bench.estimates import Run, combine, interval
from pyruntime.bench.how import How
from pyruntime.bench.results import Configuration, Measurement, Repetition, Results, Skipped
from pyruntime.bench.summary import FIGURES, figure

__all__ = ["Round", "merge_rounds"]

_LEVEL = 0.05
_Summary = tuple[dict[str, float], dict[str, tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class Round:
    """What one process has measured. number: from 1 on. is_over: it will not measure more."""

    number: int
    results: Results
    is_over: bool


def merge_rounds(rounds: Sequence[Round], how: How) -> Results:
    """One measurement for each configuration, whose intervals are those of the rounds.

    rounds: at least one.
    """
    places: dict[Configuration, None] = {}
    for each in rounds:
        places |= dict.fromkeys(one.configuration for one in each.results.measurements)
        places |= dict.fromkeys(one.configuration for one in each.results.skipped)
    measurements: list[Measurement] = []
    skipped: list[Skipped] = []
    for place in places:
        merged = _merge(place, rounds, how)
        if isinstance(merged, Measurement):
            measurements.append(merged)
        else:
            skipped.append(merged)
    return dataclasses.replace(
        rounds[0].results,
        measurements=tuple(measurements),
        skipped=tuple(skipped),
        warnings=tuple(
            _alike([(each.number, text) for each in rounds for text in each.results.warnings])
        ),
    )


def _merge(place: Configuration, rounds: Sequence[Round], how: How) -> Measurement | Skipped:
    found: dict[int, Measurement] = {}
    missing: list[tuple[int, str]] = []
    for each in rounds:
        measured = [one for one in each.results.measurements if one.configuration == place]
        reasons = [one.reason for one in each.results.skipped if one.configuration == place]
        if measured:
            found[each.number] = measured[0]
        elif reasons or each.is_over:
            missing.append((each.number, "not measured: " + (*reasons, "the round ended")[0]))
    if not found:
        return Skipped(place, missing[0][1].removeprefix("not measured: "))
    several = tuple(found.values())
    figures, ci = _summarize(several)
    texts = [(number, text) for number, one in found.items() for text in one.warnings]
    warnings = _alike([*missing, *texts])
    if len(several) < 2:
        is_steady = False
    else:
        width = _half_width(figures, ci, how.figure)
        is_steady = width <= how.within
        if not is_steady:
            warnings.append(_why_not_steady(how, width, len(several)))
    shares = [one.generator_share for one in several if one.generator_share is not None]
    return Measurement(
        configuration=place,
        repetitions=tuple(
            dataclasses.replace(each, round=number)
            for number, one in found.items()
            for each in one.repetitions
        ),
        figures=figures,
        ci=ci,
        is_steady=is_steady,
        warmup_s=float(np.mean([one.warmup_s for one in several])),
        generator_share=max(shares, default=None),
        is_complete=not missing and all(one.is_complete for one in several),
        warnings=tuple(warnings),
        rounds={number: one.figures for number, one in found.items()},
    )


def _summarize(several: Sequence[Measurement]) -> _Summary:
    """Figures and intervals; of one round, its own."""
    if len(several) == 1:
        return dict(several[0].figures), dict(several[0].ci)
    figures: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    for name in dict.fromkeys(name for one in several for name in one.figures):
        having = [one for one in several if name in one.figures]
        values = [_values(one.repetitions, one.figures, name) for one in having]
        if len(having) == 1:
            figures[name] = having[0].figures[name]
            continue
        is_log = min(map(min, values)) > 0
        runs = [Run.of([math.log(x) for x in some] if is_log else some) for some in values]
        estimate = combine(runs, 0.0)
        low, high = interval(estimate, _LEVEL)
        if is_log:
            figures[name], low, high = math.exp(estimate.mean), _exp(low), _exp(high)
        else:
            figures[name], low = estimate.mean, max(low, 0.0)
        intervals[name] = low, high
    return figures, intervals


def _values(
    repetitions: Sequence[Repetition], figures: Mapping[str, float], name: str
) -> list[float]:
    """Of the repetitions of a round; what was searched for is of the round alone."""
    return (figure(repetitions, name) if name in FIGURES else []) or [figures[name]]


def _exp(logarithm: float) -> float:
    """Kept finite: two rounds that are far apart bound hardly anything."""
    return math.exp(min(logarithm, 700.0))


def _half_width(
    figures: Mapping[str, float], ci: Mapping[str, tuple[float, float]], name: str
) -> float:
    if name not in ci:
        return math.inf
    low, high = ci[name]
    if low == high:
        return 0.0
    return (high - low) / 2 / figures[name] if figures[name] > 0 else math.inf


def _why_not_steady(how: How, width: float, count: int) -> str:
    if math.isinf(width):
        return f"{how.figure} could not be measured in {count} rounds"
    known = f"±{width:.1%}" if width < 1 else "no better than its double or half"
    return (
        f"{how.figure} is known to {known} from {count} rounds, asked for ±{how.within:.1%}; more "
        "--rounds would tell more"
    )


def _alike(texts: Sequence[tuple[int, str]]) -> list[str]:
    """Each once, where only the numbers in it differ from round to round."""
    groups: dict[str, list[tuple[int, str]]] = {}
    for number, text in texts:
        groups.setdefault(re.sub(r"[\d.]+", "#", text), []).append((number, text))
    lines = []
    for some in groups.values():
        first, others = some[0], {number for number, _ in some} - {some[0][0]}
        also = f" (and alike in {len(others)} more)" if others else ""
        lines.append(f"round {first[0]}{also}: {first[1]}")
    return lines
