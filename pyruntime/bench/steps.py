"""What all steps of the ledger share: their contract, their inputs, how calls are timed."""

import concurrent.futures
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from pyruntime import _probe
from pyruntime.bench.figures import Slice
from pyruntime.bench.tensors import Array, Inputs
from pyruntime.model import Model
from pyruntime.tensors import TensorSpec

__all__ = ["Callers", "StatsSums", "Step", "Times", "from_native", "repeat", "to_native"]

# Nanoseconds of each call.
Times = np.ndarray[Any, np.dtype[np.int64]]


class Step(Protocol):
    """One way of calling the model.

    Threads: one user at a time.
    """

    @property
    def name(self) -> str:
        """As in the ledger."""

    def outputs(self) -> list[Array]:
        """What it answers, in the order of the model's outputs."""

    def measure(self, in_flight: int, seconds: float) -> Slice:
        """Call it for so long, and at least once for each in flight."""

    def close(self) -> None:
        """Give back what it holds."""


class StatsSums:
    """A model version's time by step so far: nanoseconds of all its requests together."""

    def __init__(self, requests: int, ns: Mapping[str, int]) -> None:
        self.requests = requests
        self.ns = dict(ns)

    @classmethod
    def of(cls, model: Model) -> "StatsSums":
        """Read them off a model."""
        stats = model.stats()
        ns = {"queue": stats.queue.sum_ns}
        for step in ("gather", "run", "scatter"):
            ns[step] = sum(getattr(size, f"{step}_ns") for size in stats.by_batch_rows)
        return cls(stats.completed, ns)

    def us_since(self, earlier: "StatsSums") -> dict[str, float]:
        """Microseconds of one request between the two."""
        requests = max(1, self.requests - earlier.requests)
        return {step: (ns - earlier.ns[step]) / requests / 1e3 for step, ns in self.ns.items()}


def to_native(specs: Sequence[TensorSpec], inputs: Inputs) -> _probe.Inputs:
    """`inputs` for calls from C++."""
    tensors: list[tuple[str, tuple[int, ...], Any]] = []
    for spec in specs:
        array: Any = inputs[spec.name]
        data = [text.encode() for text in array.flat] if spec.dtype == "string" else array
        tensors.append((spec.dtype, array.shape, data))
    return _probe.Inputs(tensors)


def from_native(tensors: Sequence[tuple[str, tuple[int, ...], Any]]) -> list[Array]:
    """What C++ answers as arrays; bfloat16 as uint16."""
    arrays = []
    for dtype, shape, data in tensors:
        if dtype == "string":
            array = np.empty(len(data), object)
            array[:] = data
        else:
            array = np.frombuffer(data, "uint16" if dtype == "bfloat16" else dtype)
        arrays.append(array.reshape(shape))
    return arrays


class Callers:
    """Threads that call, kept from one slice to the next."""

    def __init__(self, most: int) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(most, "ledger-caller")

    def repeat(
        self, call: Callable[[], object], in_flight: int, seconds: float
    ) -> tuple[Times, int]:
        """Call on so many threads at once; nanoseconds of each call, and of all together."""
        if in_flight == 1:
            times_ns = repeat(call, seconds)
            return times_ns, int(times_ns.sum())
        begin = time.perf_counter_ns()
        futures = [self._pool.submit(repeat, call, seconds) for _ in range(in_flight)]
        times_ns = np.concatenate([future.result() for future in futures])
        return times_ns, time.perf_counter_ns() - begin

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


def repeat(call: Callable[[], object], seconds: float) -> Times:
    """Nanoseconds of each of the calls, one after another; the clock is read once for each."""
    clock = time.perf_counter_ns
    stamps = [clock()]
    note = stamps.append
    until = stamps[0] + int(seconds * 1e9)
    while True:
        call()
        now = clock()
        note(now)
        if now >= until:
            return np.diff(stamps)
