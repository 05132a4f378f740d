"""Compares runs: the same configurations on both sides, figure by figure."""

from collections.abc import Sequence

from pyruntime.bench.conditions import parse_condition, resolve_figure
from pyruntime.bench.differences import Differences
from pyruntime.bench.estimates import DISTURBED, RUN_TO_RUN
from pyruntime.bench.fingerprint_differences import fingerprint_warnings
from pyruntime.bench.judging import check, judge
from pyruntime.bench.matching import Group, Input, Place, describe, match, read_groups, split
from pyruntime.errors import InvalidInput

__all__ = ["compare"]

_MOST_ALIKE = 4  # warnings of single configurations, of each side


def compare(
    *sides: Input | Sequence[Input],
    labels: Sequence[str] | None = None,
    figures: Sequence[str] | None = None,
    fail_if: Sequence[str] = (),
    run_to_run: float | None = None,
    by: str | None = None,
) -> Differences:
    """Set the runs of each side beside those of the first, the baseline.

    sides: at least two, one with `by`; each a file, Results, or several of them: runs of the same
    thing. With three or more runs a side, what changes from run to run is measured instead of
    assumed.
    labels: of the sides; None: the files' names.
    figures: those to compare, ["all"], or None: the usual ones, of those that the files have.
    fail_if: conditions such as "p99 > 1.1x"; see docs/benchmarking.md.
    run_to_run: standard deviation of a figure from one run to the next, as a share, assumed for a
    side of a single run; None: 0.75 %, or 15 % for a run during which others used the machine.
    by: a field of the configurations, such as "device": of one side, each value of it becomes one.

    Raises InvalidInput: a file that is none of those, sides without a configuration in common, a
    figure or condition that does not fit.
    """
    if by is not None and len(sides) != 1:
        raise InvalidInput(f"compare: expected one side to take apart by {by}, got {len(sides)}")
    if by is None and len(sides) < 2:
        raise InvalidInput(f"compare: expected at least two sides, got {len(sides)}")
    if run_to_run is not None and not 0 <= run_to_run < 1:
        raise InvalidInput(f"run_to_run: expected a share from 0 to 1, got {run_to_run:g}")
    groups = read_groups(sides, labels)
    if by is not None:
        groups = split(groups[0], by)
    compared, places, unmatched = match(groups, by)
    runs = [
        run for place in places for each in (place.before, *place.after.values()) for run in each
    ]
    known = sorted({name for run in runs for name in run.figures})
    if figures is None:
        wanted = [name for name in groups[0].sources[0].default_figures if name in known]
    elif list(figures) == ["all"]:
        wanted = known
    else:
        wanted = [resolve_figure(name, known, "figures") for name in figures]
    conditions = [parse_condition(text, known) for text in fail_if]
    return Differences(
        sides=tuple(group.side for group in groups),
        compared=compared,
        rows=judge(places, wanted, run_to_run),
        unmatched=tuple(unmatched),
        checks=check(conditions, places, run_to_run),
        warnings=tuple(_warnings(groups, places, run_to_run)),
        run_to_run=run_to_run,
    )


def _warnings(
    groups: Sequence[Group], places: Sequence[Place], run_to_run: float | None
) -> list[str]:
    first, *others = groups
    lines = []
    for group in others:
        one, other = first.sources[0].fingerprint, group.sources[0].fingerprint
        lines += fingerprint_warnings(one, other, (first.side.label, group.side.label))
    common = set.intersection(*(set(place.configuration.items()) for place in places))
    for group in groups:
        label = group.side.label
        lines += [f"{label}: {text}" for source in group.sources for text in source.warnings]
        texts = [
            f"{', '.join(filter(None, (label, describe(place.configuration, common))))}: {text}"
            for place in places
            for run in (place.before if group is first else place.after.get(label, ()))
            for text in run.warnings
        ]
        lines += texts[:_MOST_ALIKE]
        if len(texts) > _MOST_ALIKE:
            lines.append(f"{label}: {len(texts) - _MOST_ALIKE} more such warnings")
    single = [group.side.label for group in groups if len(group.sources) == 1]
    if single:
        usual = 100 * (RUN_TO_RUN if run_to_run is None else run_to_run)
        lines.append(
            f"one run of {' and '.join(single)} tells nothing of the next: it is taken to vary by "
            f"{usual:g} %, or by as much as its repetitions do if that is more; three or more runs "
            "a side (a1.json,a2.json,a3.json) measure it"
        )
    if run_to_run is None:
        lines += _disturbed(groups, places)
    return list(dict.fromkeys(lines))


def _disturbed(groups: Sequence[Group], places: Sequence[Place]) -> list[str]:
    """Of single runs, for which it changes what is claimed."""
    lines = []
    for group in groups:
        label = group.side.label
        runs = [
            run
            for place in places
            for run in (place.before if group is groups[0] else place.after.get(label, ()))
            if run.is_disturbed
        ]
        if runs and len(group.sources) == 1:
            most = max(run.others_share or 0.0 for run in runs)
            lines.append(
                f"{label}: others used up to {100 * most:.0f} % of the processors while "
                f"{len(runs)} of its configurations were measured, which are therefore taken to "
                f"vary by {100 * DISTURBED:.0f} %"
            )
    return lines
