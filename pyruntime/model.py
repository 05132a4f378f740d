"""Model: what is called, by `infer`, `submit` or `infer_async`."""

import contextlib
import functools
import math
import threading
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from pyruntime import _core
from pyruntime._hot import Handle
from pyruntime.config import ModelOptions
from pyruntime.errors import InvalidInput, ModelNotFound, Unavailable
from pyruntime.telemetry import ModelStats, PlacedNode
from pyruntime.tensors import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    import numpy as np

    from pyruntime.completions import InferFuture
    from pyruntime.runtime import Runtime

    Outputs = dict[str, np.ndarray[Any, Any]]

__all__ = ["Model"]

Priority = Literal["high", "normal", "low"]
Place = Literal["host", "device"]


class Model(Handle):
    """A loaded model, called by `infer`, `submit` or `infer_async`; see Runtime.load and .model.

    It is one version, the one that a label names at each call, or whichever the model's route
    chooses: the latest where nothing else was set. Any thread may call it. As a context manager it
    unloads what it is at the end.

    name: of the model.
    """

    def __init__(
        self,
        runtime: "Runtime",
        model: _core.ModelVersion,
        *,
        is_routed: bool,
        label: str = "",
        options: ModelOptions | None = None,
    ):
        """Made by a Runtime. options: of the version, where it is one."""
        super().__init__(runtime._native.capsule, model.capsule, is_routed=is_routed, label=label)
        self._runtime = runtime
        self._first = _Description(model)
        self._is_routed = is_routed
        self._label = label
        self._options = options
        # Called before each run of a warm-up; a load that gives way sets it.
        self._pace: Callable[[], None] | None = None

    @property
    def version(self) -> int:
        """The version that answers now; of several, the first of the route."""
        return self._description.version

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What `infer` takes, in the model's own order."""
        return self._description.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What `infer` returns, in the model's own order."""
        return self._description.outputs

    @property
    def metadata(self) -> Mapping[str, str]:
        """The producer, the graph's name and the model's own keys."""
        return self._description.metadata

    @property
    def is_batchable(self) -> bool:
        """Whether rows of separate requests may share a run."""
        return self._description.is_batchable

    @property
    def options(self) -> ModelOptions:
        """What it was loaded with."""
        if self._options is not None:
            self._native()  # raises when it is unloaded
            return self._options
        return self._runtime._options_of(self.name, self.version)

    @property
    def placement(self) -> tuple[PlacedNode, ...]:
        """Where the engine runs each node of the model, for each group of instances.

        As the engine divided the model when it was loaded, nested graphs included; what it fuses or
        adds afterwards stays with the provider of its nodes. `stats().placement` counts them.
        """
        return tuple(
            PlacedNode(device, provider, name, op_type)
            for device, nodes in self._native().placement
            for name, op_type, provider in nodes
        )

    @property
    def is_ready(self) -> bool:
        """Whether it accepts requests now."""
        try:
            return self._native().is_accepting
        except (ModelNotFound, Unavailable):
            return False

    def submit(
        self,
        inputs: Mapping[str, Any],
        *,
        outputs: Sequence[str] | None = None,
        timeout_s: float | None = None,
        priority: Priority | None = None,
        route_key: str | None = None,
        request_id: str | None = None,
        outputs_on: Place = "host",
    ) -> "Future[Outputs]":
        """Start one request; arguments as for `infer`.

        The memory of `inputs` is kept, and must not be changed, until the future is done. What
        `infer` returns or raises, the future does; but bad inputs, Overloaded, Unavailable and
        a deadline that cannot be met are raised here. The future's cancel() returns True while
        the request has not begun to run; one that runs may still end as cancelled. Where a policy
        chose, the future's `assignment` is a pyruntime.Assignment, else None.
        """
        completions = _completions()
        future: InferFuture = completions.InferFuture()
        queue = completions.thread_queue()
        try:
            pending = self._start(
                inputs,
                outputs,
                timeout_s,
                priority,
                route_key,
                request_id,
                outputs_on,
                future,
                queue,
            )
        except (ModelNotFound, Unavailable) as error:
            if not self._may_be_brought_in():
                raise
            absent = error
        else:
            future.bind(pending.cancel)
            return future

        def start_later() -> None:
            try:
                with self._brought_in(absent, timeout_s) as left_s:
                    late = self._start(
                        inputs,
                        outputs,
                        left_s,
                        priority,
                        route_key,
                        request_id,
                        outputs_on,
                        future,
                        queue,
                    )
                    future.bind(late.cancel)
            except BaseException as error:
                future.deliver(None, error)

        threading.Thread(target=start_later, name="pyruntime-bring-in", daemon=True).start()
        return future

    async def infer_async(
        self,
        inputs: Mapping[str, Any],
        *,
        outputs: Sequence[str] | None = None,
        timeout_s: float | None = None,
        priority: Priority | None = None,
        route_key: str | None = None,
        request_id: str | None = None,
        outputs_on: Place = "host",
    ) -> "Outputs":
        """Run one request without blocking the event loop; as `infer`.

        The memory of `inputs` must not be changed meanwhile. When the task is cancelled, so is
        the request, unless it runs already; what it would have returned is then dropped.
        """
        loop, queue = _event_loops().queue_of_running_loop()
        future = loop.create_future()
        try:
            pending = self._start(
                inputs,
                outputs,
                timeout_s,
                priority,
                route_key,
                request_id,
                outputs_on,
                future,
                queue,
            )
        except (ModelNotFound, Unavailable) as error:
            bring_in = functools.partial(self._brought_in, error, timeout_s)
            with await _event_loops().lease_of(bring_in) as left_s:
                pending = self._start(
                    inputs,
                    outputs,
                    left_s,
                    priority,
                    route_key,
                    request_id,
                    outputs_on,
                    future,
                    queue,
                )
        try:
            return await future  # type: ignore[no-any-return]
        except BaseException:
            pending.cancel()
            raise

    def _may_be_brought_in(self) -> bool:
        return self._runtime._bring_in is not None

    def _brought_in(
        self, error: Exception, timeout_s: float | None
    ) -> "AbstractContextManager[float | None]":
        bring_in = self._runtime._bring_in
        version = None if self._is_routed else self._first.version
        lease = None if bring_in is None else bring_in(self.name, timeout_s, version)
        if lease is None:
            raise error
        if version is not None:
            self._take_up(lease, version, error)
        return lease

    def _take_up(
        self, lease: "AbstractContextManager[float | None]", version: int, error: Exception
    ) -> None:
        """Be the version of that number which is loaded now; raises `error` if none is."""
        with contextlib.ExitStack() as on_failure:
            on_failure.enter_context(lease)
            try:
                native = self._runtime._native.find(self.name, version)
            except ModelNotFound:
                raise error from None
            self._rebind(native.capsule)
            self._first = _Description(native)
            self._options = self._runtime._options_of(self.name, version)
            on_failure.pop_all()

    def warm_up(self, rows: int | None = None, runs: int = 8) -> None:
        """Run zeros of `rows` rows through each instance, `runs` times.

        rows: None: 1, 2, 4 and so on to the largest batch, until a row gets no cheaper or a
        second has passed. The scheduler then knows what batches cost before the first request.
        Dynamic dimensions other than the first count as 1, or as each of the sizes to which they
        are padded. Raises what `infer` does.
        """
        for name, value in (("rows", rows), ("runs", runs)):
            if value is not None and value < 1:
                raise InvalidInput(f"warm_up: {name}: expected at least 1, got {value!r}")
        if rows is not None:
            self._warm_up_rows(rows, runs)
            return
        most = self.options.batching.most_rows if self.is_batchable else 1
        spent_s = 0.0
        best = math.inf  # seconds a row
        for size in (2**i for i in range(most.bit_length())):
            took_s = self._warm_up_rows(size, runs)
            spent_s += took_s
            cost = took_s / (runs * size)
            if cost > 0.95 * best or spent_s > 1.0:
                return
            best = cost

    def _warm_up_rows(self, rows: int, runs: int) -> float:
        native = self._native()
        return self._paced(runs, lambda runs: native.warm_up(rows, runs))

    def _warm_up_with(self, inputs: Mapping[str, Any], runs: int) -> float:
        return self._paced(runs, functools.partial(self._warm_up, inputs))

    def _paced(self, runs: int, run: "Callable[[int], None]") -> float:
        """Run so often: at once, or one by one where a load gives way. Gives the seconds of it."""
        took_s = 0.0
        for count in [runs] if self._pace is None else [1] * runs:
            if self._pace is not None:
                self._pace()
            start = time.perf_counter()
            run(count)
            took_s += time.perf_counter() - start
        return took_s

    def stats(self) -> ModelStats:
        """Counters and latencies of the version that answers now, since it was loaded."""
        return ModelStats.from_native(self._native().stats())

    def unload(self) -> None:
        """Stop serving it, wait for what it has accepted, and free it.

        A model that is no one version unloads all of them. Unloading twice does nothing.
        """
        try:
            if self._is_routed:
                self._runtime.unload(self.name)
            else:
                self._runtime._unload_if_same(self, self._first.version)
        except ModelNotFound:
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.unload()

    def __repr__(self) -> str:
        version = (self._label or "by route") if self._is_routed else f"{self._first.version}"
        inputs = ", ".join(f"{spec.name}: {spec}" for spec in self._first.inputs)
        outputs = ", ".join(f"{spec.name}: {spec}" for spec in self._first.outputs)
        return f"<Model {self.name} version {version} ({inputs}) -> ({outputs})>"

    def _native(self) -> _core.ModelVersion:
        return _core.ModelVersion.from_capsule(self._model_capsule())

    @property
    def _description(self) -> "_Description":
        return _Description(self._native()) if self._is_routed else self._first


class _Description:
    """What does not change while a version is loaded."""

    def __init__(self, model: _core.ModelVersion) -> None:
        self.version = model.version
        self.inputs = tuple(TensorSpec(*spec) for spec in model.inputs)
        self.outputs = tuple(TensorSpec(*spec) for spec in model.outputs)
        self.metadata = MappingProxyType(model.metadata)
        self.is_batchable = model.is_batchable


# Imported at the first use: concurrent.futures and asyncio cost more than all the rest.
_completions_module: Any = None
_event_loops_module: Any = None


def _completions() -> Any:
    global _completions_module
    if _completions_module is None:
        from pyruntime import completions

        _completions_module = completions
    return _completions_module


def _event_loops() -> Any:
    global _event_loops_module
    if _event_loops_module is None:
        from pyruntime import event_loops

        _event_loops_module = event_loops
    return _event_loops_module
