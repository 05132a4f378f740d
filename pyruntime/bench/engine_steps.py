"""The ledger's references: ONNX Runtime by its C interface, and by its own Python module."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pyruntime import _probe
from pyruntime.bench.figures import Slice
from pyruntime.bench.steps import from_native, repeat, to_native
from pyruntime.bench.tensors import Array, Inputs, repeat_rows
from pyruntime.config import ModelOptions
from pyruntime.errors import EngineError, Unavailable
from pyruntime.tensors import TensorSpec

__all__ = ["BareRuns", "PythonRun"]


class BareRuns:
    """C Run with preallocated outputs, of one request and of batches.

    most: requests in the largest batch.
    """

    name = "C Run"

    def __init__(
        self,
        path: str,
        specs: Sequence[TensorSpec],
        inputs: Inputs,
        options: ModelOptions,
        *,
        most: int,
    ) -> None:
        session = _probe.BareSession(path, options)
        self.best = {1: 1}  # requests in a run, by number in flight
        self._runs = {}
        for size in _powers_of_two(most):
            batch = inputs if size == 1 else repeat_rows(inputs, size)
            try:
                self._runs[size] = _probe.BareRun(session, to_native(specs, batch))
            except EngineError:
                if size == 1:
                    raise
                break  # it takes no batch, though its free rows say so; the core finds that out too

    def choose(self, loads: Sequence[int], seconds: float) -> None:
        """Find the size of batch whose rows take least, for each number in flight."""
        us: dict[int, list[float]] = {size: [] for size in self._runs}
        begin = time.perf_counter()
        rounds = 0
        while rounds == 0 or (rounds < 9 and time.perf_counter() - begin < seconds):
            rounds += 1
            for size, run in self._runs.items():
                runs, elapsed_ns, _ = run.measure(seconds / 9 / len(self._runs))
                us[size].append(elapsed_ns / runs / size / 1e3)
        for load in loads:
            sizes = [size for size in us if size <= load]
            self.best[load] = min(sizes, key=lambda size: float(np.median(us[size])))

    def outputs(self) -> list[Array]:
        """See Step."""
        return from_native(self._runs[1].outputs())

    def measure(self, in_flight: int, seconds: float) -> Slice:
        """See Step; batches one after another until each in flight had its turn."""
        size = self.best[in_flight]
        runs, elapsed_ns, times_ns = self._runs[size].measure(seconds)
        us = elapsed_ns / runs / size / 1e3
        return Slice(runs * size, elapsed_ns, times_ns, {"run": us}, "")

    def close(self) -> None:
        """See Step."""
        self._runs.clear()


class PythonRun:
    """`onnxruntime.InferenceSession.run`, of the batches that are best for C Run."""

    name = "InferenceSession.run"

    def __init__(
        self, path: str, inputs: Inputs, options: ModelOptions, bare: BareRuns, names: Sequence[str]
    ) -> None:
        self._session = _python_session(path, options)
        self._bare = bare
        self._calls: dict[int, Callable[[], Any]] = {}
        for size in set(bare.best.values()):
            batch = inputs if size == 1 else repeat_rows(inputs, size)
            self._calls[size] = functools.partial(self._session.run, list(names), batch)

    def outputs(self) -> list[Array]:
        """See Step."""
        outputs: list[Array] = self._calls[1]()
        return outputs

    def measure(self, in_flight: int, seconds: float) -> Slice:
        """See Step; batches, as for C Run."""
        size = self._bare.best[in_flight]
        times_ns = repeat(self._calls[size], seconds)
        return Slice(len(times_ns) * size, int(times_ns.sum()), times_ns, {}, "binding")

    def close(self) -> None:
        """See Step."""
        self._calls.clear()


def _powers_of_two(most: int) -> list[int]:
    return [1 << i for i in range(most.bit_length())]


def _python_session(path: str, options: ModelOptions) -> Any:
    """A session of the onnxruntime module, with the options that the core gives its own."""
    try:
        import onnxruntime
    except ImportError as error:
        raise Unavailable(
            f"the Python module onnxruntime is absent ({error}): pip install 'pyruntime[cpu]'"
        ) from None
    made = onnxruntime.SessionOptions()
    made.intra_op_num_threads = options.intra_op_threads
    made.inter_op_num_threads = options.inter_op_threads
    if options.inter_op_threads != 1:
        made.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    made.enable_cpu_mem_arena = options.use_arena
    made.log_severity_level = 4
    levels = onnxruntime.GraphOptimizationLevel
    made.graph_optimization_level = {
        "none": levels.ORT_DISABLE_ALL,
        "basic": levels.ORT_ENABLE_BASIC,
        "extended": levels.ORT_ENABLE_EXTENDED,
        "all": levels.ORT_ENABLE_ALL,
    }[options.graph_optimization]
    spins = "1" if options.allow_spinning else "0"
    config = {f"session.{kind}_op.allow_spinning": spins for kind in ("intra", "inter")}
    for key, value in {**config, **options.config}.items():
        made.add_session_config_entry(key, value)
    known = {_short(name): name for name in onnxruntime.get_available_providers()}
    wanted: list[Any] = [
        (known.get(_short(p.name), p.name), dict(p.options)) for p in options.providers
    ]
    return onnxruntime.InferenceSession(path, made, wanted or ["CPUExecutionProvider"])


def _short(provider: str) -> str:
    return provider.lower().removesuffix("executionprovider")
