"""`run`: measures the grid that is asked for, one point after the other."""

import dataclasses
import datetime
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from pyruntime import _core
from pyruntime.bench import fingerprint
from pyruntime.bench.environment import check_environment
from pyruntime.bench.events import Event, Finished, Left, OnEvent, Planned
from pyruntime.bench.files import write_results
from pyruntime.bench.find_rate import Slo
from pyruntime.bench.gpu import GpuWatch
from pyruntime.bench.grid import Grid, Placement
from pyruntime.bench.load.mlperf import LoadGen
from pyruntime.bench.load.target import Target
from pyruntime.bench.model_facts import model_facts
from pyruntime.bench.point import How, measure_point
from pyruntime.bench.request_inputs import ZEROS_WARNING, read_npz, request_inputs
from pyruntime.bench.results import SCENARIOS, Configuration, Measurement, Results, Skipped
from pyruntime.bench.subjects import (
    Loaded,
    Remote,
    Subject,
    find_subjects,
    load_here,
    server_address,
)
from pyruntime.bench.summary import FIGURES
from pyruntime.bench.tensors import Array, Inputs
from pyruntime.config import ModelOptions
from pyruntime.errors import InvalidInput, PyRuntimeError, Unavailable

__all__ = ["run"]

_SAVE_EVERY_S = 1.0
_LOADGEN_SCENARIOS = SCENARIOS[2:]


def run(
    model: str | os.PathLike[str],
    *,
    target: str = "inproc",
    scenarios: Sequence[str] = (),
    rows: Sequence[int] = (1,),
    concurrency: Sequence[int] = (),
    rates: Sequence[float] = (),
    slo: str | None = None,
    devices: Sequence[str] = (),
    providers: Sequence[str] = (),
    threads: Sequence[int] = (),
    instances: Sequence[int] = (),
    max_rows: Sequence[int | str] = (),
    names: Sequence[str] = (),
    options: ModelOptions | None = None,
    inputs: str | os.PathLike[str] | Mapping[str, Array] | None = None,
    zeros: bool = False,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    seconds: float = 10.0,
    figure: str = "p50_us",
    within: float = 0.03,
    repetition_s: float | None = None,
    client_threads: int = 1,
    connections: int = 1,
    patience_s: float = 60.0,
    save: str | os.PathLike[str] | None = None,
    command: Sequence[str] = (),
    on_event: OnEvent | None = None,
) -> Results:
    """Measure every combination of what is given, and return what was seen.

    model: path of an .onnx file or of a repository; the name on the server will do for one.
    target: "inproc", or "grpc://HOST:PORT" or "grpc://unix:PATH" of any server of the Open
        Inference Protocol, version 2.
    scenarios: of pyruntime.bench.results.SCENARIOS; by default "open" where rates or an slo are
        given, else "closed".
    rows: of each request. concurrency: requests in flight, or samples of a query.
    rates: arrivals per second of the open scenarios. slo: such as "p99=10ms": the highest rate
        that keeps it is searched for.
    devices, providers, threads, instances, max_rows: how the model is loaded in this process;
        by default as `options` or the model.toml of the repository say.
    names: models of the repository, all by default; or what the server calls the file's model.
    inputs: arrays by name or an .npz file; what is not given is random, or zeros if asked for.
    dims: sizes of dynamic dimensions other than the rows, by symbol or as "INPUT.AXIS".
    seconds: for each point. It ends earlier when the interval of `figure` is `within` of its
        median to either side. repetition_s: of each repetition.
    client_threads, connections (of each): of the generator over gRPC; patience_s: without any
        answer, after which a server is given up.
    save: a file that is written as it goes, so that what was measured is kept.
    on_event: is told what happens, on this thread; see pyruntime.bench.events.

    Raises InvalidInput, Unavailable (no server there, a package that is absent). A point that
    cannot be measured is in `skipped` with its reason, one that ended early is not complete.
    """
    address = server_address(target)
    how = How(seconds=seconds, figure=figure, within=within, repetition_s=repetition_s, seed=seed)
    _check(how, client_threads, connections, patience_s)
    grid = Grid(
        scenarios=tuple(scenarios),
        rows=tuple(rows),
        concurrency=tuple(concurrency),
        rates=tuple(rates),
        slo=Slo.parse(slo) if slo is not None else None,
        devices=tuple(devices),
        providers=tuple(providers),
        threads=tuple(threads),
        instances=tuple(instances),
        max_rows=tuple(max_rows),
    )
    grid.check(is_inproc=address is None)
    subjects = find_subjects(model, options=options, names=names, is_remote=address is not None)
    arrays = inputs if isinstance(inputs, Mapping) else read_npz(inputs) if inputs else {}
    with ExitStack() as stack:
        remote = None
        if address is not None:
            remote = Remote(
                address,
                threads=client_threads,
                connections=connections,
                patience_s=patience_s,
            )
            stack.callback(remote.close)
        notebook = _Notebook(
            save=Path(save) if save is not None else None,
            command=tuple(command),
            fingerprint=_fingerprint(remote, how, grid, zeros=zeros, inputs=inputs),
            on_event=on_event or _ignore,
        )
        running = _Run(
            target, grid, how, arrays, dict(dims or {}), zeros=zeros, remote=remote, book=notebook
        )
        try:
            return running.measure(subjects)
        except BaseException:
            notebook.keep_all()
            raise


def _check(how: How, client_threads: int, connections: int, patience_s: float) -> None:
    if not 0 < how.seconds < float("inf"):
        raise InvalidInput(f"seconds: expected more than 0, got {how.seconds:g}")
    if not how.within > 0:
        raise InvalidInput(f"within: expected more than 0, got {how.within:g}")
    if how.repetition_s is not None and not 0 < how.repetition_s <= how.seconds:
        raise InvalidInput(
            f"repetition_s: expected more than 0 and at most {how.seconds:g}, "
            f"got {how.repetition_s:g}"
        )
    if how.figure not in FIGURES:
        raise InvalidInput(f"figure: expected one of {', '.join(FIGURES)}, got {how.figure!r}")
    for name, number in (("client_threads", client_threads), ("connections", connections)):
        if number < 1:
            raise InvalidInput(f"{name}: expected at least 1, got {number}")
    if not patience_s > 0:
        raise InvalidInput(f"patience_s: expected more than 0, got {patience_s:g}")


def _ignore(_: Event) -> None:
    pass


def _fingerprint(
    remote: Remote | None, how: How, grid: Grid, *, zeros: bool, inputs: Any
) -> dict[str, Any]:
    source = "zeros" if zeros else "random"
    if inputs is not None:
        source = "arrays" if isinstance(inputs, Mapping) else Path(inputs).name
    return {
        "machine": fingerprint.machine(),
        "versions": fingerprint.versions(""),
        "models": {},
        "server": None if remote is None else remote.about,
        "request": {"shapes": {}, "seed": how.seed, "source": source},
        "options": {**dataclasses.asdict(how), "slo": grid.slo.text if grid.slo else None},
    }


class _Notebook:
    """What was measured so far, kept in its file."""

    def __init__(
        self,
        *,
        save: Path | None,
        command: tuple[str, ...],
        fingerprint: dict[str, Any],
        on_event: OnEvent,
    ) -> None:
        self._save = save
        self._created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._command = command
        self._saved_at = -_SAVE_EVERY_S
        self._measurements: list[Measurement] = []
        self._running: Measurement | None = None
        self._skipped: list[Skipped] = []
        self.fingerprint = fingerprint
        self.warnings: list[str] = []
        self.on_event = on_event
        if save is not None:
            self._write(self.results())  # a file that cannot be written shows at once

    def results(self, running: Measurement | None = None) -> Results:
        """All of it, with one that is going on."""
        measurements = [*self._measurements, *([running] if running else [])]
        return Results(
            created=self._created,
            command=self._command,
            fingerprint=self.fingerprint,
            measurements=tuple(measurements),
            skipped=tuple(self._skipped),
            warnings=tuple(self.warnings),
        )

    def keep(self, running: Measurement) -> None:
        """Save what there is so far of a point, not more often than a disk minds."""
        self._running = running
        if time.monotonic() - self._saved_at >= _SAVE_EVERY_S:
            self.keep_all()

    def keep_all(self) -> None:
        """Save what there is, and of the point that is going on too."""
        self._write(self.results(self._running))

    def add(self, measurement: Measurement) -> None:
        """Keep a point that is finished."""
        self._running = None
        self._measurements.append(measurement)
        self._write(self.results())
        self.on_event(Finished(measurement))

    def skip(self, configuration: Configuration, reason: str) -> None:
        """Keep why a point was not measured."""
        skipped = Skipped(configuration, reason)
        self._running = None
        self._skipped.append(skipped)
        self._write(self.results())
        self.on_event(Left(skipped))

    def _write(self, results: Results) -> None:
        if self._save is not None:
            write_results(results, self._save)
            self._saved_at = time.monotonic()


class _Run:
    """The points of a grid, measured one after the other."""

    def __init__(
        self,
        target: str,
        grid: Grid,
        how: How,
        arrays: Mapping[str, Array],
        dims: Mapping[str, int],
        *,
        zeros: bool,
        remote: Remote | None,
        book: _Notebook,
    ) -> None:
        self._target = target
        self._grid = grid
        self._how = how
        self._arrays = arrays
        self._dims = dims
        self._zeros = zeros
        self._remote = remote
        self._book = book

    def measure(self, subjects: Sequence[Subject]) -> Results:
        """Measure all, and return what there is."""
        placements = self._grid.placements()
        planned = sum(
            len(self._grid.configurations(subject.name, self._target, placement, rows))
            for subject in subjects
            for placement in placements
            for rows in self._grid.rows
        )
        self._book.warnings += self._environment(subjects, placements)
        self._book.on_event(Planned(planned, tuple(self._book.warnings)))
        for subject in subjects:
            for placement in placements:
                self._measure_placed(subject, placement)
        return self._book.results()

    def _environment(
        self, subjects: Sequence[Subject], placements: Sequence[Placement]
    ) -> list[str]:
        threads = []
        for subject in subjects if self._remote is None else ():
            for placement in placements:
                options = placement.apply(subject.options)
                threads.append(
                    options.intra_op_threads * sum(group.count for group in options.instances)
                )
        warnings = check_environment(threads, is_inproc=self._remote is None)
        return [*warnings, ZEROS_WARNING] if self._zeros else warnings

    def _measure_placed(self, subject: Subject, placement: Placement) -> None:
        """Load it, and measure all its points; if it does not load, all are skipped."""
        made: AbstractContextManager[Loaded]
        try:
            if self._remote is None:
                made = load_here(subject, placement)
            else:
                made = nullcontext(self._remote.load(subject, self._arrays))
            with made as loaded:
                for rows in self._grid.rows:
                    self._measure_rows(subject, loaded, rows)
        except PyRuntimeError as error:
            if isinstance(error, InvalidInput):
                raise  # the caller's mistake, and that of every point
            for rows in self._grid.rows:
                for configuration in self._configurations(subject, placement, rows):
                    self._book.skip(configuration, str(error))

    def _configurations(
        self, subject: Subject, placement: Placement, rows: int
    ) -> list[Configuration]:
        return self._grid.configurations(subject.name, self._target, placement, rows)

    def _measure_rows(self, subject: Subject, loaded: Loaded, rows: int) -> None:
        configurations = self._configurations(subject, loaded.placement, rows)
        inputs = request_inputs(
            loaded.specs,
            rows=rows,
            is_batchable=loaded.is_batchable,
            dims=self._dims,
            seed=self._how.seed,
            zeros=self._zeros,
            arrays=self._arrays,
        )
        self._describe(subject, loaded, inputs)
        try:
            target = loaded.target(inputs)
        except PyRuntimeError as error:
            for configuration in configurations:
                self._book.skip(configuration, str(error))
            return
        try:
            with self._gpu_watch(configurations[0]) as gpu:
                for configuration in configurations:
                    self._measure_point(target, configuration, gpu)
        finally:
            target.close()

    @contextmanager
    def _gpu_watch(self, configuration: Configuration) -> Iterator[GpuWatch | None]:
        """Of the device that the model is on, or of all that a server here may use; None without.

        Where there should be figures and are none, a warning says why.
        """
        kind, _, number = (configuration.device or "").partition(":")
        watch = None
        try:
            if kind == "cuda":
                watch = GpuWatch([int(number or 0)])
            elif self._remote is not None and self._remote.is_here:
                with suppress(Unavailable):  # a server that uses none
                    watch = GpuWatch([])
        except Unavailable as error:
            if str(error) not in self._book.warnings:
                self._book.warnings.append(str(error))
        try:
            yield watch
        finally:
            if watch is not None:
                watch.close()

    def _measure_point(
        self, target: Target, configuration: Configuration, gpu: GpuWatch | None
    ) -> None:
        try:
            loadgen = LoadGen(target) if configuration.scenario in _LOADGEN_SCENARIOS else None
            measurement = measure_point(
                target,
                configuration,
                self._how,
                on_event=self._book.on_event,
                keep=self._book.keep,
                slo=self._grid.slo,
                loadgen=loadgen,
                gpu=gpu,
            )
        except PyRuntimeError as error:
            self._book.skip(configuration, str(error))
        else:
            self._book.add(measurement)

    def _describe(self, subject: Subject, loaded: Loaded, inputs: Inputs) -> None:
        """Into the fingerprint, once for each model."""
        shapes = {name: list(array.shape) for name, array in inputs.items()}
        print_ = self._book.fingerprint
        if self._remote is None:  # the engine's library is loaded with the first model
            engines = {name: version for name, version, *_ in _core.engines()}
            print_["versions"]["onnxruntime"] = engines["onnx"]
        print_["request"]["shapes"].setdefault(subject.name, shapes)
        if subject.name in print_["models"]:
            return
        facts: dict[str, Any] = {}
        if subject.path is not None:
            facts = model_facts(subject.path, shapes)
        for kind, specs in (("inputs", loaded.specs), ("outputs", loaded.outputs)):
            facts[kind] = [f"{spec.name}: {spec}" for spec in specs]
        if self._remote is None:
            # Through JSON, so that what is read from a file equals it.
            facts["options"] = json.loads(json.dumps(dataclasses.asdict(subject.options)))
        print_["models"][subject.name] = facts
