"""Runtime: loads models, serves them by name and version, unloads them."""

import atexit
import contextlib
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from pyruntime import _core
from pyruntime.config import ModelOptions, find_cuda_driver, find_onnxruntime
from pyruntime.errors import EngineError, InvalidInput, ModelNotFound, Unavailable
from pyruntime.load_throttle import LoadThrottle
from pyruntime.model import Model
from pyruntime.rollout import Rollout, RolloutPlan
from pyruntime.rollout_driver import RolloutDriver, RolloutStatus
from pyruntime.route_table import RouteTable
from pyruntime.routing import Policy, Route
from pyruntime.serving_state import StateStore
from pyruntime.telemetry import RouteStats
from pyruntime.traffic_keeper import TrafficKeeper

__all__ = ["Model", "Runtime"]


if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pyruntime.load_throttle import PacedLoad

# Takes a model's name, seconds, and the version if it is one; gives what keeps it loaded while
# entered, and then the seconds that are left, or None if no load is to be waited for.
LoadAbsent: TypeAlias = (
    "Callable[[str, float | None, int | None], AbstractContextManager[float | None] | None]"
)


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
        self._traffic = TrafficKeeper(self._native)
        self._routes = RouteTable(self._native, self._traffic.note_served)
        self._rollouts = RolloutDriver(self)
        self._throttle = LoadThrottle(self._latencies)
        self._onnxruntime = onnxruntime
        # Loads a model that waits for its first request; a repository sets it.
        self._bring_in: LoadAbsent | None = None
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
        warm_up: Callable[[Model], None] | None = None,
        replace: bool = False,
        gently: bool = False,
    ) -> Model:
        """Load a version of a model beside those that are loaded, and serve it.

        source: path of an .onnx file, or its bytes; None for an engine that needs neither.
        version: at least 1; None: one more than the highest loaded.
        warm_up: called with the version before anybody else sees it; what it raises ends the load.
        replace: whether that version may be loaded already. The new one then takes its place in
            one step, and the old one is unloaded once it has answered what it accepted.
        gently: whether the load gives way to requests: it works on a thread of low priority, and
            waits between its steps while requests to others take longer than they do without it.

        Returns that version. Raises InvalidInput (bad file, options, version taken), Unavailable
        (engine or device absent: says what to install), Unimplemented, EngineError.
        """
        options = ModelOptions() if options is None else options
        _check_load(name, source, version, options)
        if options.engine == "onnx":
            self._configure_onnx()
            with self._explained(options):
                self._preload(options)
        if _is_on_cuda(options):
            _core.configure_cuda_driver(path=find_cuda_driver())
        data = bytes(source) if isinstance(source, bytes | bytearray | memoryview) else None
        path = os.fsdecode(source) if isinstance(source, str | os.PathLike) else ""
        version = self._reserve(name, version, replace=replace)
        try:
            with self._explained(options), self._paced(name, version, gently=gently) as pace:
                if gently and options.engine == "onnx":
                    _core.load_onnx_library()  # its own threads are not to have low priority
                native = _core.ModelVersion.load(
                    name, version, path=path, data=data, options=options, gently=gently
                )
                model = Model(self, native, is_routed=False, options=options)
                if pace is not None:
                    pace.step()
                    model._pace = pace.step
                if warm_up is not None:
                    warm_up(model)
                model._pace = None
            old = self._serve(native, model, options)
        finally:
            with self._lock:
                self._loading.discard((name, version))
        if old is not None:
            old.close()
        return model

    def model(self, name: str, version: int | None = None, *, label: str | None = None) -> Model:
        """Give a version of a model, the one that a label names at each call, or neither.

        Without version and label each call goes where the model's route leads, which is the
        latest version unless set otherwise. Raises ModelNotFound, which names what there is.
        """
        if version is not None and label is not None:
            raise InvalidInput(f"model '{name}': expected a version or a label, got both")
        if version is None:
            native = self._native.primary(name, label or "")
            return Model(self, native, is_routed=True, label=label or "")
        native = self._native.find(name, version)
        with self._lock:
            known = self._models.get((name, version))
        return Model(self, native, is_routed=False) if known is None else known[0]

    def models(self) -> list[Model]:
        """Every loaded version, ordered by name and version."""
        with self._lock:
            return [self._models[key][0] for key in sorted(self._models)]

    def set_label(self, name: str, label: str, version: int | None) -> None:
        """Let a label name a version, from the next request on; None: remove the label.

        Raises ModelNotFound, which names what is loaded, where the version is not, and
        InvalidInput.
        """
        self.set_labels(name, {label: version})

    def set_labels(self, name: str, labels: Mapping[str, int | None]) -> None:
        """Move several labels in one step, or none of them; others stay. As set_label()."""
        self._routes.set_labels(name, labels)

    def labels(self, name: str) -> dict[str, int]:
        """Versions of a model by label. One that is not loaded answers no request."""
        return self._routes.labels(name)

    def set_route(self, name: str, route: Route | Policy | None) -> None:
        """Choose where requests that name neither version nor label go, from the next one on.

        route: a Route, or its policy alone; None: what is declared, else the latest version.
        An experiment of the same name and arms goes on with its statistics. Raises ModelNotFound,
        which names what is loaded, where a version of it is not, and InvalidInput.
        """
        if route is not None and not isinstance(route, Route):
            route = Route(route)
        self._routes.set_route(name, route)

    def route(self, name: str) -> Route:
        """Give what set_route() or declare_routing() has set."""
        return self._routes.route(name)

    def declare_routing(
        self,
        name: str,
        *,
        labels: Mapping[str, int] | None = None,
        route: Route | None = None,
    ) -> None:
        """Set labels and route as a model.toml does: what is set at run time goes before.

        The versions may be loaded later: until then their labels lead nowhere, and the first arm
        of the route answers for the others.
        """
        self._routes.declare(name, labels or {}, route)

    def promote(self, name: str, version: int, plan: RolloutPlan | None = None) -> Rollout:
        """Let a loaded version take over from the one that answers, step by step.

        plan: its steps and gates; None: at once. At the end the label that the route follows moves
        to the version, or else the route itself. When a gate breaks it is rolled back, and says
        why: see rollout(). Raises InvalidInput (the version answers already, a rollout is under
        way, the route is not to one version), ModelNotFound.
        """
        rollout = self._routes.promote(name, version, plan or RolloutPlan(canary=()))
        if rollout.is_running:
            self._rollouts.wake()
        return rollout

    def check_promotable(self, name: str, version: int) -> None:
        """Raise InvalidInput if loading a version to promote it would let it answer at once."""
        self._routes.check_promotable(name, version)

    def rollout(self, name: str) -> RolloutStatus | None:
        """Say how the last rollout of a model stands; None: there was none."""
        rollout = self._routes.rollout(name)
        return None if rollout is None else RolloutStatus(rollout, self._rollouts.waits_for(name))

    def is_rolling_out(self, name: str) -> bool:
        """Whether a rollout of a model is under way."""
        rollout = self._routes.rollout_if_known(name)
        return rollout is not None and rollout.is_running

    def rollback(self, name: str) -> Rollout:
        """End a rollout that is under way, or undo one that is done, at once.

        Raises InvalidInput (there is none, or other things were set since), ModelNotFound (the
        version before is not loaded any more).
        """
        return self._routes.rollback(name, "asked for")

    def restore_routing(self, store: StateStore) -> list[str]:
        """Take up labels, routes, rollouts and experiments, and keep all changes from now on.

        To be called before models are loaded. Returns what could not be read, a line each; of
        those models nothing is taken up.
        """
        problems = self._traffic.restore(store) + self._routes.restore(store)
        self._rollouts.wake()
        return problems

    def versions_in_use(self, name: str) -> frozenset[int]:
        """Versions that labels, route and rollout lead to, or may lead back to."""
        return self._routes.versions_in_use(name)

    def route_stats(self, name: str) -> RouteStats:
        """Count what the model's route did since it was set; without arms where it has none."""
        return RouteStats.from_native(self._native.route_stats(name))

    def feedback(self, name: str, request_id: str, reward: float) -> None:
        """Reward the arm of an experiment or a bandit that answered a request.

        request_id: as given to infer() or, over the wire, the request's `id`. The last 65,536 or so
        are known, and each has one reward. reward: 0 to 1. Raises InvalidInput, ModelNotFound.
        """
        self._native.give_reward(name, request_id, reward)

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
        self._throttle.close()
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
        self._throttle.close()
        self._rollouts.stop()
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
        self._traffic.stop()

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

    def _latencies(self) -> dict[tuple[str, int], dict[float, int]]:
        """Of all that is served, as the throttle reads them."""
        return {
            (model.name, model.version): dict(model.total_buckets())
            for model in self._native.list()
        }

    def _paced(
        self, name: str, version: int, *, gently: bool
    ) -> "AbstractContextManager[PacedLoad | None]":
        return self._throttle.begin(name, version) if gently else contextlib.nullcontext()

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise Unavailable(
                f"Runtime: made in process {self._pid} and not usable after fork() in process "
                f"{os.getpid()}; make a new one there, or start workers by 'spawn'"
            )

    @contextlib.contextmanager
    def _explained(self, options: ModelOptions) -> Iterator[None]:
        """Add to what fails on a GPU that wheels of ONNX Runtime overwrite each other, if so."""
        try:
            yield
        except (Unavailable, EngineError) as error:
            if options.engine != "onnx" or not _gpu_providers(options):
                raise
            from pyruntime.cuda_libraries import wheel_conflict

            conflict = wheel_conflict(find_onnxruntime(self._onnxruntime))
            if not conflict:
                raise
            raise type(error)(f"{error}; {conflict}") from error

    def _preload(self, options: ModelOptions) -> None:
        """Load what the providers of a GPU need before ONNX Runtime loads them."""
        if names := _gpu_providers(options):
            from pyruntime.cuda_libraries import preload_for

            preload_for(find_onnxruntime(self._onnxruntime), names)

    def _configure_onnx(self) -> None:
        if self._onnxruntime is None and _core.is_onnx_library_loaded():
            return
        _core.configure_onnx_library(path=find_onnxruntime(self._onnxruntime), **self._pool_options)

    def _reserve(self, name: str, version: int | None, *, replace: bool) -> int:
        """A version that nobody else is loading."""
        self._check_process()
        with self._lock:
            if self._refusal is not None:
                raise Unavailable(f"model '{name}': the runtime has {self._refusal}")
            taken = {key[1] for key in (*self._models, *self._loading) if key[0] == name}
            if version is None:
                version = max(taken, default=0) + 1
            if (name, version) in self._loading:
                raise InvalidInput(f"model '{name}': version {version} is being loaded already")
            if version in taken and not replace:
                raise InvalidInput(f"model '{name}': version {version} is loaded already")
            self._loading.add((name, version))
        return version

    def _serve(
        self, native: _core.ModelVersion, model: Model, options: ModelOptions
    ) -> _core.ModelVersion | None:
        """Make it visible; return the version that it took the place of."""
        with self._lock:
            if self._refusal is not None:
                raise Unavailable(f"model '{model.name}': the runtime has {self._refusal}")
            old = self._native.exchange(native)
            self._models[model.name, native.version] = (model, options)
        return old

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
    completions = sys.modules.get("pyruntime.completions")
    if completions is not None:
        completions.stop()


def _gpu_providers(options: ModelOptions) -> list[str]:
    """Execution providers of a GPU that a model is to use."""
    names = [provider.name for provider in options.providers]
    if _is_on_cuda(options):
        names.append("cuda")
    return [name for name in names if name.lower().startswith(("cuda", "tensorrt"))]


def _is_on_cuda(options: ModelOptions) -> bool:
    return any(group.device.startswith("cuda") for group in options.instances)


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
