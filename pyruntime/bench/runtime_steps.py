"""The ledger's steps through the core in this process: from C++, blocking, and by asyncio."""

import asyncio
import functools
import time

import numpy as np

from pyruntime import _probe
from pyruntime.bench.figures import Slice
from pyruntime.bench.steps import Callers, StatsSums, Times, from_native, to_native
from pyruntime.bench.tensors import Array, Inputs
from pyruntime.model import Model

__all__ = ["AsyncInfer", "Core", "Infer"]


class Core:
    """The core, called from C++: one caller blocks, more submit what follows on completion."""

    name = "core"

    def __init__(self, model: Model, inputs: Inputs) -> None:
        self._model = model
        self._core = _probe.Core(model._model_capsule(), to_native(model.inputs, inputs))

    def outputs(self) -> list[Array]:
        """See Step."""
        return from_native(self._core.outputs())

    def measure(self, in_flight: int, seconds: float) -> Slice:
        """See Step."""
        before = StatsSums.of(self._model)
        requests, elapsed_ns, times_ns = self._core.measure(in_flight, seconds)
        parts = StatsSums.of(self._model).us_since(before)
        return Slice(requests, elapsed_ns, times_ns, parts, "scheduling")

    def close(self) -> None:
        """See Step."""


class Infer:
    """`Model.infer`, each caller on a thread of its own."""

    name = "Model.infer"

    def __init__(self, model: Model, inputs: Inputs, callers: Callers) -> None:
        self._model = model
        self._call = functools.partial(model.infer, inputs)
        self._callers = callers

    def outputs(self) -> list[Array]:
        """See Step."""
        return list(self._call().values())

    def measure(self, in_flight: int, seconds: float) -> Slice:
        """See Step."""
        before = StatsSums.of(self._model)
        times_ns, elapsed_ns = self._callers.repeat(self._call, in_flight, seconds)
        parts = StatsSums.of(self._model).us_since(before)
        return Slice(len(times_ns), elapsed_ns, times_ns, parts, "binding")

    def close(self) -> None:
        """See Step."""


class AsyncInfer:
    """`Model.infer_async`, all callers on one event loop."""

    name = "infer_async"

    def __init__(self, model: Model, inputs: Inputs) -> None:
        self._model = model
        self._inputs = inputs
        self._runner = asyncio.Runner()

    def outputs(self) -> list[Array]:
        """See Step."""
        return list(self._runner.run(self._model.infer_async(self._inputs)).values())

    def measure(self, in_flight: int, seconds: float) -> Slice:
        """See Step."""
        before = StatsSums.of(self._model)
        times_ns, elapsed_ns, python_ns = self._runner.run(self._callers(in_flight, seconds))
        parts = StatsSums.of(self._model).us_since(before)
        parts["python"] = python_ns / len(times_ns) / 1e3
        return Slice(len(times_ns), elapsed_ns, times_ns, parts, "wake-up")

    def close(self) -> None:
        """See Step."""
        self._runner.close()

    async def _callers(self, in_flight: int, seconds: float) -> tuple[Times, int, int]:
        """Times of requests, elapsed time, and processor time of the loop's thread."""
        clock, infer_async, inputs = time.perf_counter_ns, self._model.infer_async, self._inputs
        begin, begin_thread = clock(), time.thread_time_ns()
        until = begin + int(seconds * 1e9)

        async def caller() -> list[int]:
            stamps = [clock()]
            while True:
                await infer_async(inputs)
                now = clock()
                stamps.append(now)
                if now >= until:
                    return stamps

        stamps = await asyncio.gather(*(caller() for _ in range(in_flight)))
        python_ns, elapsed_ns = time.thread_time_ns() - begin_thread, clock() - begin
        return np.concatenate([np.diff(each) for each in stamps]), elapsed_ns, python_ns
