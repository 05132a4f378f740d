"""The overhead ledger: the same request by every way to the model, from the bare engine outwards.

The steps take turns, a short slice of time each and in an order that changes, so that what else
the machine does hits all alike. What is set in relation is set within a turn first.
"""

import dataclasses
import functools
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyruntime import _core
from pyruntime.bench import fingerprint, tensors
from pyruntime.bench.engine_steps import BareRuns, PythonRun
from pyruntime.bench.figures import Slice, compare, make_steps
from pyruntime.bench.ledger import Comparison, Ledger, Skipped
from pyruntime.bench.runtime_steps import AsyncInfer, Core, Infer
from pyruntime.bench.steps import Callers, Step
from pyruntime.config import ModelOptions
from pyruntime.errors import EngineError, InvalidInput
from pyruntime.runtime import Runtime

if TYPE_CHECKING:
    from pyruntime.model import Model

__all__ = ["overhead"]

_TURNS = 24  # about; fewer where the model is slow
_FEWEST_TURNS = 6
_SLICE_S = (0.005, 0.05)
_WARM_UP_S = 0.003
_CHOOSING = 0.05  # share of the time


def overhead(
    path: str | os.PathLike[str],
    *,
    rows: int = 1,
    in_flight: Sequence[int] = (1, 8, 32),
    seconds: float = 20.0,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    options: ModelOptions | None = None,
) -> Ledger:
    """Measure what each step between the bare engine and a remote caller costs.

    path: of an .onnx file. rows: of each request, along dimension 0 of a batchable model.
    in_flight: requests at once; 1 is always among them.
    seconds: for everything; a model so slow that one turn takes longer is measured once.
    dims: sizes of further dynamic dimensions, by symbol or as "INPUT.AXIS"; 1 where not given.
    seed: of the random inputs. options: as for Runtime.load.

    Raises InvalidInput, Unavailable (no ONNX Runtime), EngineError (the file is no model, or it
    fails). What only one step lacks, such as grpcio, is named in `skipped`.
    """
    begin = time.monotonic()
    path = os.fspath(path)
    options = ModelOptions() if options is None else options
    loads = sorted({1, *in_flight})
    _check(path, rows, loads, seconds, options)
    with ExitStack() as stack:
        bench = _Bench(stack, path, rows, loads, options)
        bench.open(dims or {}, seed, seconds)
        turns, slice_s = _take_turns(bench.steps, loads, begin + seconds)
        names = [step.name for step in bench.steps]
        steps = [step for load in loads for step in make_steps(turns, names, load, rows)]
        warnings = list(bench.warnings)
        if len(turns) < _FEWEST_TURNS:
            warnings.append(
                f"only {len(turns)} turn{'s' if len(turns) > 1 else ''} in {seconds:g} s: an "
                "interval is what was seen at least and at most; more --seconds would tell more"
            )
        return Ledger(
            steps=tuple(steps),
            skipped=tuple(bench.skipped),
            comparisons=tuple(_compare(turns, names)),
            best_run_rows={load: rows * bench.bare.best[load] for load in loads},
            differences=tuple(bench.differences),
            warnings=tuple(warnings),
            turns=len(turns),
            slice_ms=1e3 * slice_s,
            fingerprint=bench.fingerprint(seed),
        )


def _check(
    path: str, rows: int, loads: Sequence[int], seconds: float, options: ModelOptions
) -> None:
    if rows < 1:
        raise InvalidInput(f"rows: expected at least 1, got {rows}")
    if loads[0] < 1:
        raise InvalidInput(f"in_flight: expected at least 1, got {loads[0]}")
    most = options.batching.queue_capacity
    if loads[-1] > most:
        raise InvalidInput(
            f"in_flight: expected at most the queue's capacity, {most}, got {loads[-1]}"
        )
    if not seconds > 0:
        raise InvalidInput(f"seconds: expected more than 0, got {seconds:g}")
    if options.engine != "onnx":
        raise InvalidInput(f"engine: expected 'onnx', got {options.engine!r}")
    if not Path(path).is_file():
        problem = "a folder" if Path(path).is_dir() else "nothing there"
        raise InvalidInput(f"model '{path}': expected an .onnx file, got {problem}")


class _Bench:
    """The steps that can be measured here, with what they stand on."""

    def __init__(
        self, stack: ExitStack, path: str, rows: int, loads: Sequence[int], options: ModelOptions
    ) -> None:
        self._stack = stack
        self._path = path
        self._rows = rows
        self._loads = loads
        self._options = options
        self.steps: list[Step] = []
        self.skipped: list[Skipped] = []
        self.warnings: list[str] = []
        self.differences: list[str] = []
        self._machine = fingerprint.machine()  # its load before ours

    def open(self, dims: Mapping[str, int], seed: int, seconds: float) -> None:
        """Load the model for each step, and hold all to the same outputs."""
        runtime = self._stack.enter_context(Runtime())
        # A model for each, so that its statistics are of that step alone.
        core = self._load(runtime)
        self._model = core
        inputs, guesses = tensors.make_inputs(
            core.inputs, rows=self._rows, is_batchable=core.is_batchable, dims=dims, seed=seed
        )
        self._inputs = inputs
        self.warnings = list(guesses)
        load, cores = self._machine["load_1min"], len(self._machine["affinity"])
        if load > cores / 2:
            self.warnings.append(
                f"the machine was busy before this began (load {load:.1f} on {cores} cores): all "
                "times are longer for it, and the intervals wider"
            )
        most = self._loads[-1] if core.is_batchable else 1
        try:
            self.bare = BareRuns(self._path, core.inputs, inputs, self._options, most=most)
        except EngineError as error:
            # What was guessed is the likely cause.
            raise EngineError("; ".join((str(error).strip(), *guesses))) from None
        self.bare.choose(self._loads, _CHOOSING * seconds)
        callers = Callers(self._loads[-1])
        self._stack.callback(callers.close)

        names = [spec.name for spec in core.outputs]
        infer = self._load(runtime)
        self._add("C Run", lambda: self.bare)
        self._add(
            PythonRun.name,
            lambda: PythonRun(self._path, inputs, self._options, self.bare, names),
            may_lack=True,
        )
        self._add(Core.name, lambda: Core(core, inputs))
        self._add(Infer.name, lambda: Infer(infer, inputs, callers))
        self._add(AsyncInfer.name, lambda: AsyncInfer(self._load(runtime), inputs))
        self._add_grpc(infer, callers)

    def _load(self, runtime: Runtime) -> "Model":
        return runtime.load(Path(self._path).stem, self._path, options=self._options)

    def _add_grpc(self, model: "Model", callers: Callers) -> None:
        try:
            from pyruntime.bench.grpc_steps import KINDS, Codec, GrpcStep, Server

            codec = Codec(model, self._inputs)
            server = Server(self._path, dataclasses.asdict(self._options), self._loads[-1])
            self._stack.callback(server.close)
            server.start()
        except Exception as error:
            reason = _reason(error)
            self.skipped += [Skipped(name, reason) for name in ("gRPC unix", "gRPC tcp")]
            return
        for kind in KINDS:
            make = functools.partial(GrpcStep, kind, server, model, self._inputs, callers, codec)
            self._add(f"gRPC {kind}", make, may_lack=True)

    def _add(self, name: str, make: Callable[[], Step], *, may_lack: bool = False) -> None:
        """Make a step and compare its outputs; may_lack: what fails then skips it alone."""
        try:
            step = make()
            self._stack.callback(step.close)
            outputs = step.outputs()
        except Exception as error:
            if not may_lack:
                raise
            self.skipped.append(Skipped(name, _reason(error)))
            return
        if not self.steps:
            self._expected = outputs
        specs = self._model.outputs
        for spec, expected, got in zip(specs, self._expected, outputs, strict=True):
            why = tensors.why_different(spec.name, spec.dtype, expected, got)
            if why is not None:
                self.differences.append(f"{name}: {why}")
        self.steps.append(step)

    def fingerprint(self, seed: int) -> dict[str, Any]:
        """What the figures hold for."""
        options = self._options
        names = [name for name, *_ in _core.engines()]
        engine = _core.engines()[names.index("onnx")][1]
        specs = {"inputs": self._model.inputs, "outputs": self._model.outputs}
        return {
            **self._machine,
            "versions": fingerprint.versions(engine),
            "threads": {"intra_op": options.intra_op_threads, "inter_op": options.inter_op_threads},
            "provider": [provider.name for provider in options.providers] or ["cpu"],
            "options": dataclasses.asdict(options),
            "model": {
                "file": Path(self._path).name,
                "sha256": fingerprint.hash_file(self._path),
                "size_bytes": Path(self._path).stat().st_size,
                "is_batchable": self._model.is_batchable,
                **{kind: [f"{s.name}: {s}" for s in these] for kind, these in specs.items()},
            },
            "request": {
                "rows": self._rows,
                "shapes": {name: list(array.shape) for name, array in self._inputs.items()},
                "seed": seed,
            },
        }


def _reason(error: Exception) -> str:
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] in (
        "grpc",
        "google",
    ):
        return f"{error.name} is not installed: pip install grpcio protobuf"
    return str(error).partition("\n")[0] or type(error).__name__


def _take_turns(
    steps: Sequence[Step], loads: Sequence[int], deadline: float
) -> tuple[list[dict[tuple[str, int], Slice]], float]:
    """Measure every step with every number in flight in turns until the deadline.

    Returns the turns, and how long a slice is at least, seconds.
    """
    order = random.Random(0)

    def turn(seconds: float) -> dict[tuple[str, int], Slice]:
        # What is set in relation stays close together: all steps of one load, then the next.
        return {
            (step.name, load): step.measure(load, seconds).thinned()
            for load in order.sample(loads, len(loads))
            for step in order.sample(steps, len(steps))
        }

    count = len(loads) * len(steps)
    begin = time.monotonic()
    first = turn(_WARM_UP_S)
    took_s = time.monotonic() - begin
    left_s = deadline - time.monotonic()
    # What a turn takes beyond its slices, where a single request takes longer than they do.
    beyond_s = max(0.0, took_s - count * _WARM_UP_S)
    least, most = _SLICE_S
    slice_s = min(most, max(least, (left_s / _TURNS - beyond_s) / count))
    if left_s < max(took_s, beyond_s + count * slice_s):
        return [first], _WARM_UP_S  # there is no time for another
    # Where requests alone fill the slices, the first turn is as good as the others.
    is_slow = beyond_s > count * slice_s
    turns = [first] if is_slow else []
    longest_s = took_s if is_slow else 0.0
    while not turns or time.monotonic() + longest_s < deadline:
        begin = time.monotonic()
        turns.append(turn(slice_s))
        longest_s = max(longest_s, time.monotonic() - begin)
    return turns, slice_s


def _compare(
    turns: Sequence[Mapping[tuple[str, int], Slice]], names: Sequence[str]
) -> list[Comparison]:
    bare, python, core, infer = BareRuns.name, PythonRun.name, Core.name, Infer.name
    comparisons = [compare("core_minus_run_us", turns, core, bare, as_ratio=False)]
    if python in names:
        comparisons.append(compare("infer_to_python_run", turns, infer, python, as_ratio=True))
    return comparisons
