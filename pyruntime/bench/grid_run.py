"""The points of a plan, measured one after the other in this process."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

from pyruntime import _core
from pyruntime.bench import fingerprint
from pyruntime.bench.environment import check_environment
from pyruntime.bench.events import OnEvent, Planned
from pyruntime.bench.gpu import GpuWatch
from pyruntime.bench.grid import Placement
from pyruntime.bench.how import Point
from pyruntime.bench.load.mlperf import LoadGen
from pyruntime.bench.load.target import Target
from pyruntime.bench.model_facts import model_facts
from pyruntime.bench.notebook import Notebook, Save
from pyruntime.bench.plan import Plan
from pyruntime.bench.point import measure_point
from pyruntime.bench.request_inputs import ZEROS_WARNING, request_inputs
from pyruntime.bench.results import SCENARIOS, Configuration, Results
from pyruntime.bench.servers import Remote
from pyruntime.bench.subjects import Loaded, Subject, load_here
from pyruntime.bench.tensors import Inputs
from pyruntime.errors import InvalidInput, PyRuntimeError, Unavailable

__all__ = ["measure_plan"]

_LOADGEN_SCENARIOS = SCENARIOS[2:]


def measure_plan(
    plan: Plan, *, command: tuple[str, ...], save: Save | None, on_event: OnEvent
) -> Results:
    """Measure all of it. save: is given what there is, again and again.

    Raises InvalidInput, Unavailable (no server there, a package that is absent).
    """
    remote = None if plan.is_inproc else Remote(plan.target, plan.client)
    try:
        book = Notebook(
            save=save, command=command, fingerprint=_fingerprint(plan, remote), on_event=on_event
        )
        try:
            return _GridRun(plan, remote, book).measure()
        except BaseException:
            book.keep_all()
            raise
    finally:
        if remote is not None:
            remote.close()


def _fingerprint(plan: Plan, remote: Remote | None) -> dict[str, Any]:
    slo = plan.grid.slo
    how = {k: v for k, v in dataclasses.asdict(plan.how).items() if k != "round"}
    return {
        "machine": fingerprint.machine(),
        "versions": fingerprint.versions(""),
        "models": {},
        "server": None if remote is None else remote.about,
        "request": {"shapes": {}, "seed": plan.how.seed, "source": plan.values.source},
        "options": {**how, "slo": slo.text if slo else None, "rounds": plan.rounds},
    }


class _GridRun:
    """What goes on."""

    def __init__(self, plan: Plan, remote: Remote | None, book: Notebook) -> None:
        self._plan = plan
        self._remote = remote
        self._book = book

    def measure(self) -> Results:
        """Measure all, and return what there is."""
        subjects, grid = self._plan.subjects, self._plan.grid
        placements = grid.placements()
        planned = sum(
            len(self._configurations(subject, placement, rows))
            for subject in subjects
            for placement in placements
            for rows in grid.rows
        )
        self._book.warnings += self._environment(placements)
        self._book.on_event(Planned(planned, tuple(self._book.warnings)))
        for subject in subjects:
            for placement in placements:
                self._measure_placed(subject, placement)
        return self._book.results()

    def _environment(self, placements: Sequence[Placement]) -> list[str]:
        threads = []
        for subject in self._plan.subjects if self._remote is None else ():
            for placement in placements:
                options = placement.apply(subject.options)
                threads.append(
                    options.intra_op_threads * sum(group.count for group in options.instances)
                )
        warnings = check_environment(threads, is_inproc=self._remote is None)
        return [*warnings, ZEROS_WARNING] if self._plan.values.is_zeros else warnings

    def _measure_placed(self, subject: Subject, placement: Placement) -> None:
        """Load it, and measure all its points; if it does not load, all are skipped."""
        made: AbstractContextManager[Loaded]
        rows_of_requests = self._plan.grid.rows
        try:
            if self._remote is None:
                made = load_here(subject, placement)
            else:
                made = nullcontext(self._remote.load(subject, self._plan.values.arrays))
            with made as loaded:
                for rows in rows_of_requests:
                    self._measure_rows(subject, loaded, rows)
        except PyRuntimeError as error:
            if isinstance(error, InvalidInput):
                raise  # the caller's mistake, and that of every point
            for rows in rows_of_requests:
                for configuration in self._configurations(subject, placement, rows):
                    self._book.skip(configuration, str(error))

    def _configurations(
        self, subject: Subject, placement: Placement, rows: int
    ) -> list[Configuration]:
        return self._plan.grid.configurations(subject.name, self._plan.target, placement, rows)

    def _measure_rows(self, subject: Subject, loaded: Loaded, rows: int) -> None:
        configurations = self._configurations(subject, loaded.placement, rows)
        values = self._plan.values
        inputs = request_inputs(
            loaded.specs,
            rows=rows,
            is_batchable=loaded.is_batchable,
            dims=values.dims,
            seed=self._plan.how.seed,
            zeros=values.is_zeros,
            arrays=values.arrays,
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
            point = Point(
                target,
                configuration,
                self._plan.how,
                on_event=self._book.on_event,
                keep=self._book.keep,
                slo=self._plan.grid.slo,
                loadgen=loadgen,
                gpu=gpu,
            )
            measurement = measure_point(point)
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
