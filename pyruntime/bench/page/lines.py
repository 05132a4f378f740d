"""Which measurements belong to one line of a plot, and what the line is called."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pyruntime.bench.files import read_results
from pyruntime.bench.results import Configuration, Measurement, Results
from pyruntime.bench.summary import summarize
from pyruntime.errors import InvalidInput

__all__ = ["File", "Line", "Workload", "make_lines", "read_files", "workload_of"]

# What was measured, in the order in which names are made of it.
_SUBJECT = ("target", "device", "provider", "threads", "instances", "max_rows")


@dataclass(frozen=True, slots=True)
class File:
    """Results with the name that they bear on the page."""

    label: str
    path: str
    results: Results


@dataclass(frozen=True, slots=True)
class Workload:
    """How something was measured; fields as those of Configuration."""

    scenario: str
    rows: int
    concurrency: int | None
    rate_per_s: float | None
    slo: str | None

    @property
    def load(self) -> float:
        """What grows along a line: requests in flight or each second."""
        return self.concurrency or self.rate_per_s or 0

    def __str__(self) -> str:
        """As "closed, 8 in flight, 4 rows"."""
        parts = [self.scenario]
        if self.concurrency is not None:
            what = "samples a query" if self.scenario == "multi-stream" else "in flight"
            parts.append(f"{self.concurrency} {what}")
        if self.rate_per_s is not None:
            parts.append(f"{self.rate_per_s:,.6g}/s")
        if self.rows != 1:
            parts.append(f"{self.rows} rows")
        if self.slo is not None:
            parts.append(f"highest rate with {self.slo}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Line:
    """All measurements of one thing: a model on a device of a machine, or behind a server.

    style: its number; the same line looks the same in all plots.
    names: by which a price may call it.
    """

    label: str
    style: int
    model: str
    file: str
    names: frozenset[str]
    measurements: tuple[Measurement, ...]


def read_files(
    inputs: Sequence[str | os.PathLike[str] | Results], labels: Sequence[str] | None
) -> list[File]:
    """Read and name them; those of one label are of one thing. Raises InvalidInput."""
    if not inputs:
        raise InvalidInput("report: expected at least one file, got none")
    if labels is not None and len(labels) != len(inputs):
        raise InvalidInput(f"labels: expected {len(inputs)}, one a file, got {len(labels)}")
    read = [
        ("results", item) if isinstance(item, Results) else (os.fspath(item), read_results(item))
        for item in inputs
    ]
    names = list(labels) if labels is not None else [Path(path).stem for path, _ in read]
    if labels is None and len(set(names)) != len(names):
        names = [path for path, _ in read]
    if labels is None and len(set(names)) != len(names):
        names = [f"{name} ({number})" for number, name in enumerate(names, 1)]
    files = [File(name, *one) for name, one in zip(names, read, strict=True)]
    if not any(file.results.measurements for file in files):
        raise InvalidInput("report: expected measurements, got files without any")
    return files


def make_lines(files: Sequence[File]) -> list[Line]:
    """Sort the measurements of all files into lines."""
    groups: dict[tuple[object, ...], list[Measurement]] = {}
    for file in files:
        for one in file.results.measurements:
            fields = tuple(getattr(one.configuration, name) for name in _SUBJECT)
            key = (file.label, one.configuration.model, *fields)
            groups.setdefault(key, []).append(one)
    labels: dict[tuple[object, ...], str] = {}
    for model in dict.fromkeys(key[1] for key in groups):
        labels |= _labels([key for key in groups if key[1] == model])
    # A model has a section of its own, where its lines have the styles of the others'.
    styles = {label: number for number, label in enumerate(dict.fromkeys(labels.values()))}
    return [
        Line(
            label=labels[key],
            style=styles[labels[key]],
            model=str(key[1]),
            file=str(key[0]),
            names=frozenset(str(part) for part in (key[0], labels[key], *key[2:5]) if part),
            measurements=_merged(groups[key]),
        )
        for key in groups
    ]


def _merged(measurements: Sequence[Measurement]) -> tuple[Measurement, ...]:
    """With those of the same configuration, from several runs, in one."""
    by_configuration: dict[Configuration, list[Measurement]] = {}
    for one in measurements:
        by_configuration.setdefault(one.configuration, []).append(one)
    return tuple(map(_joined, by_configuration.values()))


def _joined(several: Sequence[Measurement]) -> Measurement:
    if len(several) == 1:
        return several[0]
    repetitions = tuple(each for one in several for each in one.repetitions)
    figures, ci = summarize(repetitions)
    # What was searched for is in no repetition.
    for name in several[0].figures.keys() - figures.keys():
        values = [one.figures[name] for one in several if name in one.figures]
        figures[name] = float(np.median(values))
    return dataclasses.replace(
        several[0],
        repetitions=repetitions,
        figures=figures,
        ci=ci,
        is_complete=all(one.is_complete for one in several),
        warnings=tuple(text for one in several for text in one.warnings),
    )


def _labels(keys: Sequence[tuple[object, ...]]) -> dict[tuple[object, ...], str]:
    """Of the lines of a model: what is not the same on all of them, or else their file."""
    parts = {key: _parts(key) for key in keys}
    varies = [len({part[i] for part in parts.values()}) > 1 for i in range(len(_SUBJECT) + 1)]
    return {
        key: ", ".join(text for text, is_said in zip(part, varies, strict=True) if is_said and text)
        or str(key[0])
        for key, part in parts.items()
    }


def _parts(key: tuple[object, ...]) -> tuple[str, ...]:
    file, _, target, device, provider, threads, instances, max_rows = key
    return (
        str(file),
        str(target),
        str(device or ""),
        # The device's own provider says nothing more.
        str(provider or "") if provider != str(device).partition(":")[0] else "",
        f"{threads} thread{'' if threads == 1 else 's'}" if threads is not None else "",
        f"{instances} instance{'' if instances == 1 else 's'}" if instances is not None else "",
        f"batch limit {max_rows}" if max_rows is not None else "",
    )


def workload_of(configuration: Configuration) -> Workload:
    """How it was measured."""
    values: Mapping[str, object] = {
        field.name: getattr(configuration, field.name) for field in dataclasses.fields(Workload)
    }
    return Workload(**values)  # type: ignore[arg-type]
