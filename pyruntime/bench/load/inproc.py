"""Load on a model in this process, from C++ where Python would be the limit."""

import functools
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from pyruntime import _probe
from pyruntime.bench.load.target import LoadResult, OnDone, Times, Usage, from_native
from pyruntime.bench.steps import to_native
from pyruntime.bench.tensors import Inputs
from pyruntime.errors import PyRuntimeError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from pyruntime.model import Model, Outputs

__all__ = ["InProcess"]

_LIMIT_S = 0.1


class InProcess:
    """See Target. The model is its maker's."""

    def __init__(self, model: "Model", inputs: Inputs) -> None:
        self._model = model
        self._inputs = inputs
        self._load = _probe.ModelLoad(model._model_capsule(), to_native(model.inputs, inputs))

    def closed(self, in_flight: int, seconds: float) -> LoadResult:
        """See Target: one caller blocks, and runs the model itself if it is free."""
        return from_native(self._load.closed(in_flight, seconds))

    def open(self, times_ns: Times, seconds: float) -> LoadResult:
        """See Target."""
        return from_native(self._load.open(times_ns, seconds))

    def submit(self, on_done: OnDone) -> None:
        """See Target."""
        try:
            future = self._model.submit(self._inputs)
        except PyRuntimeError as error:
            on_done(error.code)
            return
        future.add_done_callback(functools.partial(_tell, on_done))

    def limit(self, *, is_open: bool, in_flight: int) -> float | None:
        """See Target."""
        return _limit(is_open, 1 if is_open or in_flight == 1 else 32)

    def usage(self) -> Usage:
        """See Target; of this process, generator and all."""
        import psutil

        return Usage(time.process_time(), psutil.Process().memory_info().rss)

    def batches(self) -> Mapping[int, int]:
        """See Target."""
        return {size.rows: size.count for size in self._model.stats().by_batch_rows}

    def explain(self) -> str:
        """See Target."""
        try:
            self._model.infer(self._inputs)
        except PyRuntimeError as error:
            return str(error)
        return ""

    def close(self) -> None:
        """See Target."""


def _tell(on_done: OnDone, future: "Future[Outputs]") -> None:
    error = future.exception()
    on_done(None if error is None else getattr(error, "code", type(error).__name__))


@functools.cache
def _limit(is_open: bool, in_flight: int) -> float:
    """The same for every model, so that once is enough."""
    if is_open:
        all_at_once = np.zeros(100_000, np.int64)
        return from_native(_probe.null_open(all_at_once, 0.0)).requests_per_s
    return from_native(_probe.null_closed(in_flight, _LIMIT_S)).requests_per_s
