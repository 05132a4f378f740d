"""Searches the options that serve the most rows within a promise about latency."""

import dataclasses
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyruntime.bench.choices import Choice, choices, parse_tries
from pyruntime.bench.estimates import RUN_TO_RUN, Run, combine, interval, ratio_of
from pyruntime.bench.find_rate import Slo
from pyruntime.bench.halving import Arm, Measure, Record, halve, take_turns
from pyruntime.bench.load.inproc import InProcess
from pyruntime.bench.model_toml import changed_toml, toml_beside, write_toml
from pyruntime.bench.request_inputs import read_npz, request_inputs
from pyruntime.bench.tensors import Array, Inputs
from pyruntime.bench.tuned import SkippedChoice, Trial, Tuning
from pyruntime.config import ModelOptions, read_model_options
from pyruntime.errors import InvalidInput
from pyruntime.model import Model
from pyruntime.runtime import Runtime

__all__ = ["tune"]

_SEARCHING = 0.6  # share of the time
_FINALISTS = 3
_FEWEST_TURNS = 10
_LEVEL = 0.05
_FEWEST_BEYOND = 5  # requests beyond the quantile of the promise
_QUANTILES = {
    "p50_us": 0.5,
    "p90_us": 0.9,
    "p99_us": 0.99,
    "p999_us": 0.999,
    "max_us": 1.0,
    "mean_us": None,
}

OnStep = Callable[[str], None]


def tune(
    path: str | os.PathLike[str],
    *,
    slo: str,
    seconds: float = 60.0,
    concurrency: Sequence[int] = (1, 4, 16, 64),
    rows: int = 1,
    threads: Sequence[int] | None = None,
    instances: Sequence[int] | None = None,
    max_rows: Sequence[int | str] | None = None,
    tries: Sequence[str] = (),
    inputs: Mapping[str, Array] | str | os.PathLike[str] | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    toml: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    on_step: OnStep = lambda text: None,
) -> Tuning:
    """Search options of a model for the most rows each second within `slo`; write the best.

    slo: such as "p99=10ms", of requests in this process.
    concurrency: requests in flight that are tried, each with all options.
    threads, instances, max_rows: to try; None: what suits the machine. tries: further keys of
    model.toml, such as "allow_spinning=true,false" or "providers.cuda.KEY=A,B".
    inputs, dims, seed: of the requests of `rows` rows, as for run().
    toml: the file that has the options to begin with and is changed; None: the model's own. It
    is changed if the best is surely better than what is there, and not with `dry_run`.
    on_step: is told how far it is.

    Raises InvalidInput, Unavailable (no tomlkit), EngineError. Options that cannot be tried are in
    `skipped`.
    """
    begin = time.monotonic()
    model_path, promise = Path(path), Slo.parse(slo)
    _check(model_path, seconds, concurrency, rows)
    file = toml_beside(model_path) if toml is None else Path(toml)
    base = read_model_options(file) if file.exists() else ModelOptions()
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    changed_toml(text, {}, base)  # what cannot be written shows before the time is spent
    with Runtime() as runtime, _Models(runtime, model_path) as models:
        first = models.load(0, base)
        found = choices(
            base,
            cores=len(os.sched_getaffinity(0)),
            is_batchable=first.is_batchable,
            threads=threads,
            instances=instances,
            max_rows=max_rows,
            tries=parse_tries(tries, base),
        )
        arrays = inputs if isinstance(inputs, Mapping) else read_npz(inputs) if inputs else {}
        requests = request_inputs(
            first.inputs,
            rows=rows,
            is_batchable=first.is_batchable,
            dims=dims or {},
            seed=seed,
            arrays=arrays,
        )
        search = _Search(promise, found, models.measuring(found, requests), rows, on_step)
        tuning = search.run(sorted(set(concurrency)), seconds, seed)
    tuning = dataclasses.replace(
        tuning, model=os.fspath(path), file=os.fspath(file), seconds=time.monotonic() - begin
    )
    if tuning.is_better and tuning.best is not None:
        changes = tuning.best.changes
        options = next(choice.options for choice in found if choice.changes == changes)
        changed = changed_toml(text, changes, options)
        if not dry_run:
            write_toml(file, changed)
            tuning = dataclasses.replace(tuning, is_written=True)
    return tuning


def _check(path: Path, seconds: float, concurrency: Sequence[int], rows: int) -> None:
    if not path.is_file():
        problem = "a folder" if path.is_dir() else "nothing there"
        raise InvalidInput(f"model '{path}': expected an .onnx file, got {problem}")
    if not 0 < seconds < math.inf:
        raise InvalidInput(f"seconds: expected more than 0, got {seconds:g}")
    if not concurrency or min(concurrency) < 1:
        raise InvalidInput(f"concurrency: expected numbers of at least 1, got {concurrency}")
    if rows < 1:
        raise InvalidInput(f"rows: expected at least 1, got {rows}")


def _available_bytes() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class _Models:
    """The model with each of the options, as many at once as memory holds."""

    def __init__(self, runtime: Runtime, path: Path) -> None:
        self._runtime = runtime
        self._path = path
        self._loaded: dict[int, Model] = {}  # the least lately used first
        self._targets: dict[int, InProcess] = {}
        # A session holds its weights, often packed a second time, and arenas.
        each_bytes = 4 * path.stat().st_size + (16 << 20)
        self._most = max(2, _available_bytes() // 2 // each_bytes)

    def __enter__(self) -> "_Models":
        return self

    def __exit__(self, *_: object) -> None:
        for target in self._targets.values():
            target.close()
        self._targets.clear()
        self._loaded.clear()

    def load(self, number: int, options: ModelOptions) -> Model:
        """Load it, if it is not, in the place of another if there is no room."""
        model = self._loaded.pop(number, None)
        if model is None:
            while len(self._loaded) >= self._most:
                self._drop(next(iter(self._loaded)))
            name = f"{self._path.stem}-{number}"
            model = self._runtime.load(name, self._path, options=options)
        self._loaded[number] = model
        return model

    def _drop(self, number: int) -> None:
        model = self._loaded.pop(number)
        if target := self._targets.pop(number, None):
            target.close()
        self._runtime.unload(model.name)

    def measuring(self, found: Sequence[Choice], requests: Inputs) -> Measure:
        """What halve() calls."""

        def measure(arm: Arm, seconds: float) -> Any:
            model = self.load(arm.choice, found[arm.choice].options)
            target = self._targets.get(arm.choice)
            if target is None:
                model.warm_up(runs=2)
                target = self._targets[arm.choice] = InProcess(model, requests)
                target.closed(arm.in_flight, 0.25 * seconds)
            return target.closed(arm.in_flight, seconds)

        return measure


class _Search:
    """From many choices to one, and whether that is more than chance."""

    def __init__(
        self,
        promise: Slo,
        found: Sequence[Choice],
        measure: Measure,
        rows: int,
        on_step: OnStep,
    ) -> None:
        self._promise = promise
        self._quantile = _QUANTILES[promise.figure]
        self._found = found
        self._measure = measure
        self._rows = rows
        self._on_step = on_step

    def run(self, loads: Sequence[int], seconds: float, seed: int) -> Tuning:
        """Halve, then let the last ones take turns."""
        arms = [Arm(number, load) for number in range(len(self._found)) for load in loads]
        records = halve(
            arms,
            self._measure,
            self._rank,
            seconds=_SEARCHING * seconds,
            finalists=_FINALISTS,
            kept=0,
            seed=seed,
            on_round=lambda number, left: self._on_step(
                f"round {number}: {left} of {len(arms)} combinations of options and load"
            ),
        )
        finalists = self._finalists(records)
        self._on_step(f"last turns: {len(finalists)} combinations")
        final = take_turns(
            finalists,
            self._measure,
            seconds=(1 - _SEARCHING) * seconds,
            fewest=_FEWEST_TURNS,
            seed=seed + 1,
        )
        return self._judge(final, records)

    def _keeps(self, record: Record) -> bool:
        return record.keeps(self._quantile, self._promise.limit_us)

    def _rank(self, record: Record) -> tuple[bool, float]:
        if self._keeps(record):
            return True, record.per_s
        latency = record.latency_us(self._quantile)
        return False, -math.inf if math.isnan(latency) else -latency

    def _finalists(self, records: Sequence[Record]) -> list[Arm]:
        """The best load of the best choices, and of the default."""
        best: dict[int, Arm] = {}
        for record in sorted(
            (r for r in records if r.slices and not r.problem), key=self._rank, reverse=True
        ):
            best.setdefault(record.arm.choice, record.arm)
        chosen = list(best)[:_FINALISTS]
        return [best[choice] for choice in dict.fromkeys((*chosen, *({0} & set(best))))]

    def _judge(self, final: Sequence[Record], records: Sequence[Record]) -> Tuning:
        sound = [record for record in final if not record.problem and record.slices]
        default = next((record for record in sound if record.arm.choice == 0), None)
        keeping = [record for record in sound if self._keeps(record)]
        best = max(keeping, key=lambda record: record.per_s, default=None)
        ratio = ci = None
        is_better = False
        if best is not None and default is not None and best is not default:
            level = _LEVEL / max(1, len(sound) - 1)  # the best of several is lucky, too
            ratio, ci = _ratio(default, best, lambda each: each.requests / each.seconds, level)
            is_better = ci[0] > 1
            if not self._keeps(default):
                _, latency = _ratio(default, best, self._latency_of_slice, level)
                is_better = latency[1] < 1
        trials = sorted(
            (record for record in records if record.slices and not record.problem),
            key=self._rank,
            reverse=True,
        )
        return Tuning(
            model="",
            slo=self._promise.text,
            default=self._trial(default) if default else None,
            best=self._trial(best) if best else None,
            ratio=ratio,
            ci=ci,
            is_better=is_better,
            trials=tuple(self._trial(record) for record in trials),
            skipped=tuple(self._skipped([*records, *final])),
            warnings=tuple(self._warnings(sound, best)),
            seconds=0.0,
            file="",
        )

    def _latency_of_slice(self, each: Any) -> float:
        if self._quantile is None:
            return float(each.latency.mean_us)
        return float(each.latency.quantile(self._quantile))

    def _trial(self, record: Record) -> Trial:
        return Trial(
            changes=self._found[record.arm.choice].changes,
            in_flight=record.arm.in_flight,
            requests_per_s=record.per_s,
            rows_per_s=self._rows * record.per_s,
            latency_us=record.latency_us(self._quantile),
            keeps=self._keeps(record),
            seconds=record.seconds,
            rounds=len(record.slices),
        )

    def _skipped(self, records: Sequence[Record]) -> list[SkippedChoice]:
        reasons = {record.arm.choice: record.problem for record in records if record.problem}
        return [SkippedChoice(self._found[i].changes, text) for i, text in reasons.items()]

    def _warnings(self, final: Sequence[Record], best: Record | None) -> list[str]:
        lines = []
        few = min((sum(each.requests for each in r.slices) for r in final), default=0)
        if self._quantile not in (None, 1.0) and few * (1 - self._quantile) < _FEWEST_BEYOND:
            lines.append(
                f"only {few} requests in the last turns: the {self._promise.text.split('=')[0]} is "
                "that of a handful; more --seconds would tell more"
            )
        if (
            best is not None
            and best.arm.in_flight == max(r.arm.in_flight for r in final)
            and (best.latency_us(self._quantile) < 0.5 * self._promise.limit_us)
        ):
            lines.append(
                f"at the most requests in flight that were tried, {best.arm.in_flight}, there is "
                "still room to the promise: more --concurrency may serve more"
            )
        return lines


def _ratio(
    before: Record, after: Record, value: Callable[[Any], float], level: float
) -> tuple[float, tuple[float, float]]:
    """Of the values turn by turn, and its interval."""
    pairs = zip(before.slices, after.slices, strict=False)
    values = [(value(one), value(other)) for one, other in pairs]
    logs = [math.log(b / a) for a, b in values if a > 0 and b > 0]
    if not logs:
        return math.nan, (0.0, math.inf)
    estimate = combine([Run.of(logs)], RUN_TO_RUN)
    if math.isnan(estimate.variance):
        return math.exp(estimate.mean), (0.0, math.inf)
    low, high = interval(estimate, level)
    return math.exp(estimate.mean), (ratio_of(low), ratio_of(high))
