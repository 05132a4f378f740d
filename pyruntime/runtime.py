"""Runtime and Model: load, infer, submit, infer_async."""

import atexit
import os
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from pyruntime import _core
from pyruntime._hot import Handle
from pyruntime.config import ModelOptions, find_onnxruntime
from pyruntime.errors import InvalidInput, ModelNotFound, Unavailable
from pyruntime.telemetry import ModelStats
from pyruntime.tensors import TensorSpec

if TYPE_CHECKING:
    from concurrent.futures import Future

    import numpy as np

    from pyruntime.completions import InferFuture

    Outputs = dict[str, np.ndarray[Any, Any]]

__all__ = ["Model", "Runtime"]

Priority = Literal["high", "normal", "low"]


class Model(Handle):
    """A loaded model, called by `infer`, `submit` or `infer_async`; see Runtime.load and .model.

    It is one version, or whichever is the latest at each call. Any thread may call it. As a
    context manager it unloads what it is at the end.

    name: of the model.
    """

    def __init__(self, runtime: "Runtime", model: _core.ModelVersion, *, follows_latest: bool):
        """Made by a Runtime."""
        super().__init__(runtime._native.capsule, model.capsule, follows_latest=follows_latest)
        self._runtime = runtime
        self._first = _Description(model)
        self._follows_latest = follows_latest

    @property
    def version(self) -> int:
        """The version that answers now."""
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
        return self._runtime._options_of(self.name, self.version)

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
        priority: Priority = "normal",
    ) -> "Future[Outputs]":
        """Start one request; arguments as for `infer`.

        The memory of `inputs` is kept, and must not be changed, until the future is done. What
        `infer` returns or raises, the future does; but bad inputs, Overloaded and Unavailable
        are raised here. The future's cancel() succeeds while the request has not begun to run.
        """
        completions = _completions()
        future: InferFuture = completions.InferFuture()
        queue = completions.thread_queue()
        pending = self._start(inputs, outputs, timeout_s, priority, future, queue)
        future.bind(pending.cancel)
        return future

    async def infer_async(
        self,
        inputs: Mapping[str, Any],
        *,
        outputs: Sequence[str] | None = None,
        timeout_s: float | None = None,
        priority: Priority = "normal",
    ) -> "Outputs":
        """Run one request without blocking the event loop; as `infer`.

        The memory of `inputs` must not be changed meanwhile. When the task is cancelled, so is
        the request, unless it runs already; what it would have returned is then dropped.
        """
        loop, queue = _event_loops().queue_of_running_loop()
        future = loop.create_future()
        pending = self._start(inputs, outputs, timeout_s, priority, future, queue)
        try:
            return await future  # type: ignore[no-any-return]
        except BaseException:
            pending.cancel()
            raise

    def warm_up(self, rows: int = 1, runs: int = 1) -> None:
        """Run zeros of `rows` rows through each instance, `runs` times.

        Dynamic dimensions other than the first count as 1. Raises what `infer` does.
        """
        for name, value in (("rows", rows), ("runs", runs)):
            if value < 1:
                raise InvalidInput(f"warm_up: {name}: expected at least 1, got {value!r}")
        self._native().warm_up(rows, runs)

    def stats(self) -> ModelStats:
        """Counters and latencies of the version that answers now, since it was loaded."""
        return ModelStats.from_native(self._native().stats())

    def unload(self) -> None:
        """Stop serving it, wait for what it has accepted, and free it.

        A model that follows the latest unloads all versions. Unloading twice does nothing.
        """
        try:
            if self._follows_latest:
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
        version = "latest" if self._follows_latest else f"{self._first.version}"
        inputs = ", ".join(f"{spec.name}: {spec}" for spec in self._first.inputs)
        outputs = ", ".join(f"{spec.name}: {spec}" for spec in self._first.outputs)
        return f"<Model {self.name} version {version} ({inputs}) -> ({outputs})>"

    def _native(self) -> _core.ModelVersion:
        return _core.ModelVersion.from_capsule(self._model_capsule())

    @property
    def _description(self) -> "_Description":
        return _Description(self._native()) if self._follows_latest else self._first


class _Description:
    """What does not change while a version is loaded."""

    def __init__(self, model: _core.ModelVersion) -> None:
        self.version = model.version
        self.inputs = tuple(TensorSpec(*spec) for spec in model.inputs)
        self.outputs = tuple(TensorSpec(*spec) for spec in model.outputs)
        self.metadata = MappingProxyType(model.metadata)
        self.is_batchable = model.is_batchable


class Runtime:
    """Models, by name and version, loaded into this process.

    onnxruntime: path of ONNX Runtime's library; None: the environment's PYRUNTIME_ONNXRUNTIME,
    else the one in the installed wheel. One library serves the whole process.
    global_*: of the thread pool that models with `use_global_pool` share in this process.

    Any thread may call any method. As a context manager it closes at the end. After fork() the
    child cannot use it: calls raise Unavailable.
    """

    def __init__(
        self,
        *,
        onnxruntime: str | os.PathLike[str] | None = None,
        global_intra_op_threads: int = 0,
        global_inter_op_threads: int = 0,
        global_allow_spinning: bool = False,
    ) -> None:
        self._native = _core.Registry()
        self._onnxruntime = onnxruntime
        self._pool_options: dict[str, Any] = {
            "global_intra_op_threads": global_intra_op_threads,
            "global_inter_op_threads": global_inter_op_threads,
            "global_allow_spinning": global_allow_spinning,
        }
        self._pid = os.getpid()
        self._lock = threading.Lock()
        # Below: under _lock.
        self._models: dict[tuple[str, int], tuple[Model, ModelOptions]] = {}
        self._loading: set[tuple[str, int]] = set()
        self._refusal: str | None = None  # why nothing more is loaded
        _runtimes.add(self)

    def load(
        self,
        name: str,
        source: str | os.PathLike[str] | bytes | bytearray | memoryview | None = None,
        *,
        version: int | None = None,
        options: ModelOptions | None = None,
    ) -> Model:
        """Load a version of a model beside those that are loaded, and serve it.

        source: path of an .onnx file, or its bytes; None for an engine that needs neither.
        version: at least 1; None: one more than the highest loaded.

        Returns that version. Raises InvalidInput (bad file, options, version taken), Unavailable
        (engine or device absent: says what to install), Unimplemented, EngineError.
        """
        options = ModelOptions() if options is None else options
        _check_load(name, source, version, options)
        if options.engine == "onnx":
            self._configure_onnx()
        data = bytes(source) if isinstance(source, bytes | bytearray | memoryview) else None
        path = os.fsdecode(source) if isinstance(source, str | os.PathLike) else ""
        version = self._reserve(name, version)
        try:
            native = _core.ModelVersion.load(name, version, path=path, data=data, options=options)
            model = Model(self, native, follows_latest=False)
            self._serve(native, model, options)
        finally:
            with self._lock:
                self._loading.discard((name, version))
        return model

    def model(self, name: str, version: int | None = None) -> Model:
        """Give a loaded version of a model; None: the one that is the latest at each call.

        Raises ModelNotFound, which names what there is.
        """
        native = self._native.find(name, version)
        if version is not None:
            with self._lock:
                known = self._models.get((name, version))
            if known is not None:
                return known[0]
        return Model(self, native, follows_latest=version is None)

    def models(self) -> list[Model]:
        """Every loaded version, ordered by name and version."""
        with self._lock:
            return [self._models[key][0] for key in sorted(self._models)]

    def unload(self, name: str, version: int | None = None) -> None:
        """Stop serving a version (None: all of them), wait for what it has accepted, free it.

        Calls under way end well; later ones raise ModelNotFound or Unavailable. Raises
        ModelNotFound.
        """
        self._check_process()
        if version is not None:
            self._unload_one(name, version)
            return
        versions = [model.version for model in self._native.list() if model.name == name]
        if not versions:
            self._native.find(name)  # raises ModelNotFound
        for number in versions:
            try:
                self._unload_one(name, number)
            except ModelNotFound:
                continue  # someone else was first

    def stop_accepting(self) -> None:
        """Refuse new requests and loads from now on; what is accepted is answered."""
        self._refuse("stopped accepting requests")
        for model in self._native.list():
            model.stop_accepting()

    def drain(self, timeout_s: float | None = None) -> bool:
        """Wait until no accepted request is unanswered; whether that came within the time."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        pause_s = 0.0005
        while any(model.outstanding for model in self._native.list()):
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.02)
        return True

    def close(self) -> None:
        """Unload everything; waits for accepted requests. Closing twice does nothing."""
        if os.getpid() != self._pid:
            return  # the threads that would have to end are in another process
        self._refuse("closed")
        natives = self._native.list()
        for native in natives:
            native.stop_accepting()
        del natives
        with self._lock:
            keys = list(self._models)
        for name, version in keys:
            try:
                self._unload_one(name, version)
            except ModelNotFound:
                continue

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        with self._lock:
            names = ", ".join(f"{name} version {version}" for name, version in self._models)
        return f"<Runtime {names or 'without models'}>"

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise Unavailable(
                f"Runtime: made in process {self._pid} and not usable after fork() in process "
                f"{os.getpid()}; make a new one there, or start workers by 'spawn'"
            )

    def _configure_onnx(self) -> None:
        if self._onnxruntime is None and _core.is_onnx_library_loaded():
            return
        _core.configure_onnx_library(path=find_onnxruntime(self._onnxruntime), **self._pool_options)

    def _reserve(self, name: str, version: int | None) -> int:
        """A version that nobody else is loading."""
        self._check_process()
        with self._lock:
            if self._refusal is not None:
                raise Unavailable(f"model '{name}': the runtime has {self._refusal}")
            taken = {key[1] for key in (*self._models, *self._loading) if key[0] == name}
            if version is None:
                version = max(taken, default=0) + 1
            if version in taken:
                raise InvalidInput(f"model '{name}': version {version} is loaded already")
            self._loading.add((name, version))
        return version

    def _serve(self, native: _core.ModelVersion, model: Model, options: ModelOptions) -> None:
        with self._lock:
            if self._refusal is not None:
                raise Unavailable(f"model '{model.name}': the runtime has {self._refusal}")
            self._native.add(native)
            self._models[model.name, native.version] = (model, options)

    def _unload_one(self, name: str, version: int) -> None:
        # Removing drops the name at once; closing waits, without the GIL, for what runs.
        native = self._native.remove(name, version)
        with self._lock:
            self._models.pop((name, version), None)
        native.close()

    def _unload_if_same(self, model: Model, version: int) -> None:
        with self._lock:
            known = self._models.get((model.name, version))
        if known is not None and known[0] is model:
            self.unload(model.name, version)

    def _options_of(self, name: str, version: int) -> ModelOptions:
        with self._lock:
            known = self._models.get((name, version))
        if known is None:
            raise Unavailable(f"model '{name}' version {version}: unloaded")
        return known[1]

    def _refuse(self, reason: str) -> None:
        with self._lock:
            self._refusal = reason


_runtimes: "weakref.WeakSet[Runtime]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Close what is open: results of requests under way still reach their futures."""
    for runtime in list(_runtimes):
        runtime.close()
    if _completions_module is not None:
        _completions_module.stop()


def _check_load(name: object, source: object, version: object, options: object) -> None:
    if not isinstance(name, str) or not name:
        raise InvalidInput(f"name: expected a text that is not empty, got {name!r}")
    if version is not None and (
        not isinstance(version, int) or isinstance(version, bool) or version < 1
    ):
        raise InvalidInput(f"model '{name}': version: expected at least 1, got {version!r}")
    if not isinstance(options, ModelOptions):
        raise InvalidInput(f"model '{name}': options: expected ModelOptions, got {options!r}")
    is_readable = isinstance(source, str | os.PathLike | bytes | bytearray | memoryview)
    if not is_readable and (source is not None or options.engine == "onnx"):
        kind = type(source).__name__
        raise InvalidInput(f"model '{name}': source: expected a path or bytes, got {kind}")


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

        _completions()  # has to be stopped when the interpreter exits
        _event_loops_module = event_loops
    return _event_loops_module
