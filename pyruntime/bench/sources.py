"""What `compare` can read: files of this package and of pytest-benchmark, as one kind of thing."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pyruntime.bench.files import from_json
from pyruntime.bench.results import Measurement, Results
from pyruntime.bench.summary import FIGURES, figure
from pyruntime.errors import InvalidInput

__all__ = ["Entry", "Source", "Stated", "of_results", "read_sources"]


@dataclass(frozen=True, slots=True)
class Stated:
    """A figure of which only a 95 % interval is known, or not even that."""

    value: float
    ci: tuple[float, float] | None


Observed = Sequence[float] | Stated

# As of the check of the environment before a run.
_DISTURBING = 0.05


@dataclass(frozen=True, slots=True)
class Entry:
    """One configuration, and by name its figures: of each repetition, or as stated.

    warnings: about this one.
    others_share: of the processors, that others used meanwhile; None where that is unknown.
    """

    configuration: Mapping[str, Any]
    figures: Mapping[str, Observed]
    warnings: tuple[str, ...] = ()
    others_share: float | None = None

    @property
    def is_disturbed(self) -> bool:
        """Whether others used so much that it may have been slower for that."""
        return (self.others_share or 0.0) > _DISTURBING


@dataclass(frozen=True, slots=True)
class Source:
    """One run.

    kind: "results", "ledger" or "pytest-benchmark".
    subject: fields of the configurations that say what was measured, not how.
    default_figures: those that are compared where none are asked for, if they are there.
    """

    file: str
    kind: str
    fingerprint: Mapping[str, Any]
    entries: tuple[Entry, ...]
    subject: tuple[str, ...] = ()
    default_figures: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())


def read_sources(path: str | os.PathLike[str]) -> list[Source]:
    """Read one file, whose rounds are a run each.

    Raises InvalidInput that says what it is instead.
    """
    where = os.fspath(path)
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{where}: {error.strerror}") from None
    except ValueError as error:  # also of bytes that are no text
        raise InvalidInput(f"{where}: expected JSON, got an error: {error}") from None
    for is_kind, make in _KINDS:
        if isinstance(value, dict) and is_kind(value):
            try:
                return make(value, where)
            except (KeyError, TypeError, AttributeError, IndexError) as error:
                raise InvalidInput(
                    f"{where}: {type(error).__name__}: {error}: not as its program writes it"
                ) from None
    raise InvalidInput(
        f"{where}: expected the JSON of `bench run`, of `bench overhead` or of pytest-benchmark, "
        f"got {_kind_of(value)}"
    )


def of_results(results: Results, where: str) -> list[Source]:
    """Results that are in memory: a run, or one for each of its rounds."""
    numbers = sorted({number for one in results.measurements for number in one.rounds})
    return [_of_round(results, where, number) for number in numbers or (None,)]


def _of_round(results: Results, where: str, number: int | None) -> Source:
    return Source(
        file=where,
        kind="results",
        fingerprint=results.fingerprint,
        entries=tuple(
            _entry(each, number)
            for each in results.measurements
            if number is None or number in each.rounds
        ),
        subject=("model", "target", "device", "provider", "threads", "instances", "max_rows"),
        default_figures=(
            *("p50_us", "p99_us", "requests_per_s", "max_rate_per_s"),
            *("cpu_us_per_request", "errors_share", "energy_j_per_request"),
        ),
        warnings=results.warnings,
    )


def _entry(measurement: Measurement, round_: int | None) -> Entry:
    """round_: of which alone, None: of all."""
    repetitions = measurement.repetitions
    stated, ci = measurement.figures, measurement.ci
    if round_ is not None:
        repetitions = tuple(one for one in repetitions if one.round == round_)
        stated, ci = measurement.rounds[round_], {}
    figures: dict[str, Observed] = {}
    for name, value in stated.items():
        values = figure(repetitions, name) if name in FIGURES else []
        figures[name] = values or Stated(value, ci.get(name))
    configuration = {k: v for k, v in asdict(measurement.configuration).items() if v is not None}
    warnings = list(measurement.warnings)
    if not measurement.is_complete:
        warnings.insert(0, "ended early; these are the figures until then")
    if round_ is not None and round_ != min(measurement.rounds):
        warnings = []  # they are about all rounds, and said once
    shares = [one.others_share for one in repetitions if one.others_share is not None]
    others_share = float(np.mean(shares)) if shares else None
    return Entry(configuration, figures, tuple(warnings), others_share)


def _of_results_json(value: dict[str, Any], where: str) -> list[Source]:
    return of_results(from_json(value, where=where), where)


def _of_ledger(value: dict[str, Any], where: str) -> Source:
    entries = []
    for step in value["steps"]:
        figures = {
            name: Stated(float(step[name]), _pair(step["ci"].get(name)))
            for name in ("p50_us", "p99_us", "rows_per_s", "ratio_to_run", "us_per_request")
        }
        entries.append(Entry({"step": step["name"], "in_flight": step["in_flight"]}, figures))
    print_ = dict(value["fingerprint"])
    # As `bench run` sorts it.
    parts = {name: print_.pop(name) for name in ("versions", "model", "request") if name in print_}
    options = {name: print_.pop(name) for name in ("options", "threads", "provider")}
    return Source(
        file=where,
        kind="ledger",
        fingerprint={"machine": print_, "options": options, **parts},
        entries=tuple(entries),
        default_figures=("p50_us", "rows_per_s", "ratio_to_run"),
        warnings=tuple(value["warnings"]),
    )


_BLOCKS = 20


def _of_pytest_benchmark(value: dict[str, Any], where: str) -> Source:
    entries = []
    for each in value["benchmarks"]:
        stats = each["stats"]
        # Rounds are single calls; a block of them is what a repetition is elsewhere.
        blocks = np.array_split(np.array(stats.get("data") or [], float), _BLOCKS)
        median: Observed
        if all(block.size for block in blocks):
            median = [1e6 * float(np.median(block)) for block in blocks]
        else:
            half = 1.96 * 1.2533 * stats["iqr"] / 1.349 / stats["rounds"] ** 0.5
            middle = stats["median"]
            median = Stated(1e6 * middle, (1e6 * (middle - half), 1e6 * (middle + half)))
        figures: dict[str, Observed] = {
            "median_us": median,
            "min_us": Stated(1e6 * stats["min"], None),
        }
        entries.append(Entry({"benchmark": each["fullname"]}, figures))
    info = value.get("machine_info", {})
    cpu = info.get("cpu", {})
    return Source(
        file=where,
        kind="pytest-benchmark",
        fingerprint={
            "machine": {
                "cpu": cpu.get("brand_raw"),
                "cores": cpu.get("count"),
                "kernel": info.get("release"),
            },
            "versions": {"python": info.get("python_version")},
        },
        entries=tuple(entries),
        default_figures=("median_us",),
    )


def _pair(ci: Sequence[float] | None) -> tuple[float, float] | None:
    return None if ci is None else (float(ci[0]), float(ci[1]))


def _kind_of(value: object) -> str:
    if not isinstance(value, dict):
        return f"a JSON {type(value).__name__}"
    keys = ", ".join(repr(key) for key in list(value)[:4])
    return f"an object with the keys {keys}" if keys else "an empty object"


_KINDS: tuple[tuple[Callable[[dict[str, Any]], bool], Callable[..., list[Source]]], ...] = (
    (lambda value: str(value.get("schema", "")).startswith("pyruntime-bench/"), _of_results_json),
    (
        lambda value: {"steps", "turns", "slice_ms"} <= set(value),
        lambda value, where: [_of_ledger(value, where)],
    ),
    (
        lambda value: {"benchmarks", "machine_info"} <= set(value),
        lambda value, where: [_of_pytest_benchmark(value, where)],
    ),
)
