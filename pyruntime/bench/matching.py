"""Which configurations of several sides are the same."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyruntime.bench.differences import Side, Unmatched
from pyruntime.bench.results import Results
from pyruntime.bench.sources import Entry, Source, of_results, read_sources
from pyruntime.errors import InvalidInput

__all__ = ["Group", "Input", "Place", "describe", "match", "read_groups", "split"]

Input = str | os.PathLike[str] | Results
_Runs = dict[frozenset[tuple[str, Any]], list[Entry]]


@dataclass(frozen=True, slots=True)
class Group:
    """A side with what its files hold."""

    side: Side
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A configuration of the baseline that another side has too, with the runs of both.

    configuration: without the fields that are compared.
    after: by label of the side.
    """

    configuration: Mapping[str, Any]
    before: Sequence[Entry]
    after: Mapping[str, Sequence[Entry]]


def read_groups(
    sides: Sequence[Input | Sequence[Input]], labels: Sequence[str] | None
) -> list[Group]:
    """Read all files. Raises InvalidInput."""
    if labels is not None and len(labels) != len(sides):
        raise InvalidInput(f"labels: expected {len(sides)}, one a side, got {len(labels)}")
    if labels is not None and len(set(labels)) != len(labels):
        raise InvalidInput(f"labels: expected different ones, got {', '.join(labels)}")
    several: list[list[Input]] = [
        [side] if isinstance(side, str | os.PathLike | Results) else list(side) for side in sides
    ]
    if not all(several):
        raise InvalidInput("compare: expected at least one file a side, got none")
    sources = [tuple(one for item in items for one in _sources(item)) for items in several]
    kinds = {source.kind: source.file for group in sources for source in group}
    if len(kinds) > 1:
        found = ", ".join(f"{file} is of {kind}" for kind, file in kinds.items())
        raise InvalidInput(f"compare: expected files of one kind, got several: {found}")
    names = list(labels) if labels is not None else _labels(sources)
    return [
        Group(Side(name, tuple(dict.fromkeys(source.file for source in group))), group)
        for name, group in zip(names, sources, strict=True)
    ]


def _sources(item: Input) -> list[Source]:
    return of_results(item, "results") if isinstance(item, Results) else read_sources(item)


def _labels(groups: Sequence[Sequence[Source]]) -> list[str]:
    """Names of the files without folder and suffix, as far as they are unlike each other."""
    shapes: tuple[Callable[[str], str], ...] = (lambda file: Path(file).stem, str)
    for shape in shapes:
        names = ["+".join(dict.fromkeys(shape(one.file) for one in group)) for group in groups]
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({number})" for number, name in enumerate(names, 1)]


def split(group: Group, field: str) -> list[Group]:
    """The side taken apart by a field of its configurations. Raises InvalidInput."""
    entries = [entry for source in group.sources for entry in source.entries]
    values = list(dict.fromkeys(entry.configuration.get(field) for entry in entries))
    if len(values) < 2:
        fields = dict.fromkeys(name for entry in entries for name in entry.configuration)
        several = [
            name for name in fields if len({entry.configuration.get(name) for entry in entries}) > 1
        ]
        raise InvalidInput(
            f"by: expected a field with several values ({', '.join(several) or 'there is none'}), "
            f"got {field!r}"
        )
    return [
        Group(
            Side(f"{field} {value}", group.side.files),
            tuple(
                replace(
                    source,
                    entries=tuple(
                        each for each in source.entries if each.configuration.get(field) == value
                    ),
                )
                for source in group.sources
            ),
        )
        for value in values
    ]


def match(
    groups: Sequence[Group], by: str | None = None
) -> tuple[dict[str, dict[str, Any]], list[Place], list[Unmatched]]:
    """Find what is compared, where it can be, and what only some have.

    What is compared: fields of the subject that are the same throughout each side and not between
    the sides, such as the device; by field and side. by: a further such field. Raises InvalidInput
    if there is no place.
    """
    compared = _compared(groups, by)
    runs = [_by_key(group.sources, compared) for group in groups]
    labels = [group.side.label for group in groups]
    first = runs[0]
    places = [
        Place(
            before[0].configuration,
            before,
            {
                label: one[key]
                for label, one in zip(labels[1:], runs[1:], strict=True)
                if key in one
            },
        )
        for key, before in first.items()
        if any(key in one for one in runs[1:])
    ]
    unmatched = [
        Unmatched(
            next(one[key][0].configuration for one in runs if key in one),
            tuple(label for label, one in zip(labels, runs, strict=True) if key in one),
        )
        for key in dict.fromkeys(key for one in runs for key in one)
        if not all(key in one for one in runs)
    ]
    if not places:
        some = "; ".join(
            f"{label} has {describe(next(iter(one.values()))[0].configuration) if one else 'none'}"
            for label, one in zip(labels, runs, strict=True)
        )
        raise InvalidInput(f"compare: no configuration is on both sides: {some}")
    return compared, places, unmatched


def describe(
    configuration: Mapping[str, Any], less: Collection[tuple[str, Any]] = frozenset()
) -> str:
    """As "rows=1, concurrency=8", without the fields of `less`."""
    return ", ".join(f"{k}={v}" for k, v in configuration.items() if (k, v) not in less)


def _compared(groups: Sequence[Group], by: str | None) -> dict[str, dict[str, Any]]:
    found = {}
    for name in dict.fromkeys((*groups[0].sources[0].subject, *([by] if by else ()))):
        values = [
            {entry.configuration.get(name) for source in group.sources for entry in source.entries}
            for group in groups
        ]
        if all(len(each) == 1 for each in values) and len(set().union(*values)) > 1:
            pairs = zip(groups, values, strict=True)
            found[name] = {group.side.label: next(iter(each)) for group, each in pairs}
    return found


def _by_key(sources: Sequence[Source], compared: Mapping[str, Any]) -> _Runs:
    found: _Runs = {}
    for source in sources:
        for entry in source.entries:
            rest = {k: v for k, v in entry.configuration.items() if k not in compared}
            found.setdefault(frozenset(rest.items()), []).append(replace(entry, configuration=rest))
    return found
