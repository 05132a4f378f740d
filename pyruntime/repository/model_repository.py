"""ModelRepository: the models of a folder, loaded, replaced and unloaded while they are served."""

from __future__ import annotations

import concurrent.futures
import logging
import threading
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pyruntime.config.model import Memory, ModelConfig
from pyruntime.config.repository import RepositoryOptions
from pyruntime.errors import (
    DeadlineExceeded,
    InvalidInput,
    ModelNotFound,
    PyRuntimeError,
    Unavailable,
)
from pyruntime.repository.arrival import Arrivals, Lease
from pyruntime.repository.going_back import GoneBack, go_back
from pyruntime.repository.lifecycle import Lifecycle
from pyruntime.repository.load_threads import LoadThreads
from pyruntime.repository.memory import MemoryBudget, size_now
from pyruntime.repository.override import make_override
from pyruntime.repository.records import Failures, ModelRecord
from pyruntime.repository.scan import FoundModel, scan, scan_model
from pyruntime.repository.status import State, VersionStatus
from pyruntime.repository.watcher import Watcher
from pyruntime.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future
    from os import PathLike
    from types import TracebackType

    from pyruntime.model import Model

__all__ = ["ModelRepository"]

_log = logging.getLogger("pyruntime.repository")


class ModelRepository:
    """The models of a folder, REPOSITORY/<model>/<version>/model.onnx, in a Runtime.

    runtime: what serves them; None: one of its own, which close() closes.

    Any thread may call any method. Loads run on threads of its own. As a context manager it
    starts, and closes at the end.
    """

    def __init__(
        self,
        root: str | PathLike[str],
        *,
        runtime: Runtime | None = None,
        options: RepositoryOptions | None = None,
    ) -> None:
        self._given_root = Path(root)
        self._options = RepositoryOptions() if options is None else options
        self._owns_runtime = runtime is None
        self.runtime = Runtime() if runtime is None else runtime
        self._defaults = ModelConfig(
            options=self._options.defaults, memory=Memory(on_demand=self._options.on_demand)
        )
        self._lock = threading.Condition(threading.RLock())
        # Below: under _lock.
        self._root: Path | None = None
        self._records: dict[str, ModelRecord] = {}
        self._listeners: list[Callable[[VersionStatus], None]] = []
        self._is_closed = False

        self._budget = MemoryBudget(
            self._options.memory_budget_bytes,
            self.runtime,
            self._lock,
            self._records,
            lambda record, number, reason: self._lifecycle.unload(record, number, reason),
        )
        self._lifecycle = Lifecycle(
            self.runtime,
            self._lock,
            self._tell,
            self._budget,
            loads_gently=self._options.gentle,
        )
        self.runtime._bring_in = self.bring_in
        self._threads = LoadThreads(self._options.load_threads)
        self._arrivals = Arrivals(self._lock, self._records, self._submit, self._wait)
        self._starting: list[Future[Failures]] = []
        self._watcher: Watcher | None = None

    @property
    def root(self) -> Path:
        """The folder."""
        return self._given_root

    @property
    def mode(self) -> str:
        """What is loaded when: "none", "poll" or "explicit"."""
        return self._options.mode

    def start(self, *, wait: bool = True) -> None:
        """Load what the mode says, and from then on what changes.

        wait: until all is loaded, or known not to be loadable; see index().
        Raises InvalidInput if the folder is none, or a model to be loaded is not there.
        """
        found = scan(self._given_root, self._defaults)
        root = self._given_root.resolve()
        names = {model.name for model in found}
        for name in self._options.load:
            if name not in names and name != "*":
                raise InvalidInput(f"repository {self._given_root}: it has no model '{name}'")
        with self._lock:
            self._root = root
            for model in found:
                record = self._records.setdefault(model.name, ModelRecord(model.name))
                record.is_served = self._options.mode != "explicit" or bool(
                    {"*", model.name} & set(self._options.load)
                )
                wants_it = model.config.memory.on_demand or self._options.on_demand
                # A rollout that was under way goes on without waiting for a request.
                is_wanted_now = self.runtime.is_rolling_out(model.name)
                record.is_waiting = record.is_served and wants_it and not is_wanted_now
        if self._options.mode == "poll":
            self._watcher = Watcher(
                root, self._notice_changes, poll_every_s=self._options.poll_every_s
            )
            self._watcher.start()
        self._starting = [self._submit(model.name) for model in found]
        if wait:
            self.wait_settled()

    def wait_settled(self, timeout_s: float | None = None) -> bool:
        """Wait until what start() found is loaded or refused; whether it was in time."""
        done, open_ = concurrent.futures.wait(self._starting, timeout_s)
        for job in done:
            job.result()
        return not open_

    def index(self, *, ready_only: bool = False) -> list[VersionStatus]:
        """Say of every version where it stands, by name and version."""
        self._look_for_new()
        statuses = []
        with self._lock:
            for name, record in sorted(self._records.items()):
                versions = sorted(
                    record.versions.values(), key=lambda one: (len(one.name), one.name)
                )
                found = [self._held_back(version.status(name)) for version in versions]
                if record.problem and not record.loaded():
                    reason = record.problem
                    found = [VersionStatus(name, "", State.UNAVAILABLE, reason, is_failed=True)]
                statuses += found
        return [one for one in statuses if one.state is State.READY or not ready_only]

    def _held_back(self, status: VersionStatus) -> VersionStatus:
        """Say why a load waits, if it does."""
        if not status.version.isdigit():
            return status
        reason = self.runtime._throttle.why_held(status.model, int(status.version))
        return replace(status, reason=f"its load is held back: {reason}") if reason else status

    def load(
        self,
        name: str,
        version: int | None = None,
        *,
        config: str | None = None,
        files: Mapping[str, bytes] | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Load a model's versions as its policy says, or one more version of it.

        What is loaded already is loaded again only if its files have changed. Returns when it is
        served.

        config: in place of the model's own: JSON or text of Triton's ModelConfig, or a model.toml.
        files: with `config`, in place of the model's folder, by their paths in it:
            "1/model.onnx". Both hold until the next load of the model.

        Raises ModelNotFound, DeadlineExceeded (it goes on loading), and why it could not be
        loaded; then what was served before still is.
        """
        with self._lock:
            root = self._check_open()
        override = make_override(root, name, config, files or {}, self._defaults)
        with self._lock:
            record = self._known(name, is_new=override is not None)
            before = (record.is_served, set(record.asked), set(record.refused), record.override)
            record.is_served, record.is_waiting = True, False
            record.override = override
            if version is None:
                record.refused.clear()
            else:
                record.asked.add(version)
                record.refused.discard(version)
        failures = self._wait(name, self._submit(name, retry=True), timeout_s)
        with self._lock:
            error = self._why_not_loaded(record, version, failures)
            if error is not None:
                record.is_served = before[0] or bool(record.loaded())
                record.asked, record.refused, record.override = before[1:]
        if error is not None:
            raise error

    def _why_not_loaded(
        self, record: ModelRecord, version: int | None, failures: Failures
    ) -> PyRuntimeError | None:
        if self._records.get(record.name) is not record:
            return ModelNotFound(f"model '{record.name}': not in the repository")
        if record.problem:
            return InvalidInput(f"model '{record.name}': {record.problem}")
        if version is None:
            error = next(iter(failures.values()), None)
            if error is None and not record.loaded():
                reasons = "; ".join(one.reason for one in record.versions.values())
                error = InvalidInput(f"model '{record.name}': nothing to be loaded: {reasons}")
            return error
        if version in failures or version in record.loaded():
            return failures.get(version)
        known = record.versions.get(str(version))
        if known is not None:
            return InvalidInput(f"model '{record.name}' version {version}: {known.reason}")
        names = ", ".join(record.versions) or "none"
        return ModelNotFound(f"model '{record.name}' has no version {version}; found: {names}")

    def unload(self, name: str, version: int | None = None) -> None:
        """Stop serving a version (None: all of them), answer what it accepted, and free it.

        It stays so until it is loaded again, or in mode "poll" until its files change. Raises
        ModelNotFound.
        """
        with self._lock:
            self._check_open()
            record = self._records.get(name)
            if record is None:
                raise ModelNotFound(f"model '{name}': not in the repository")
        with record.work:
            with self._lock:
                loaded = list(record.loaded())
                if version is None:
                    record.is_served, record.is_waiting = False, False
                    record.asked.clear()
                    for known in record.versions.values():
                        known.is_evicted = False
                else:
                    if version not in loaded:
                        raise ModelNotFound(
                            f"model '{name}' version {version} is not loaded; loaded: "
                            + (", ".join(map(str, loaded)) or "none")
                        )
                    record.refused.add(version)
                    record.asked.discard(version)
            for number in loaded if version is None else [version]:
                self._lifecycle.unload(record, number, "unloaded on demand")
            with self._lock:
                if left := record.loaded():
                    latest = left[max(left)]  # answers now, and is not for going back to any more
                    latest.is_kept, latest.reason = False, ""

    def rollback(self, name: str) -> GoneBack:
        """Have the version before answer again, at once.

        A rollout is ended or undone. Without one, and where the latest version answers, that one
        is unloaded as by unload(); the one before must be loaded still (`versions.keep`).
        Raises InvalidInput, ModelNotFound.
        """
        return go_back(self, name)

    def model(
        self, name: str, version: int | None = None, *, timeout_s: float | None = None
    ) -> Model:
        """Give a model as Runtime.model does, loaded first if it waits for its first request.

        What is given comes back by itself when it was unloaded to make room.
        Raises DeadlineExceeded, and what loading does.
        """
        lease = self.bring_in(name, timeout_s, version)
        if lease is None:
            return self.runtime.model(name, version)
        with lease:
            return self.runtime.model(name, version)

    def size_bytes(self, name: str, version: int) -> int:
        """Say what a loaded version needs of memory now; 0 if it is not loaded by this."""
        with self._lock:
            record = self._records.get(name)
            known = record.loaded().get(version) if record is not None else None
        return 0 if known is None else size_now(known)

    def is_on_demand(self, name: str) -> bool:
        """Whether a request for the model would load it now."""
        return self._arrivals.is_expected(name)

    def bring_in(
        self, name: str, timeout_s: float | None = None, version: int | None = None
    ) -> Lease | None:
        """Load a model that waits for a request, or wait for whoever does.

        version: that the request names; also loaded if it alone was unloaded to make room.
        Returns what keeps it loaded while entered; None if it does not wait and is not loaded.
        Raises DeadlineExceeded (it goes on loading), and why it cannot be loaded.
        """
        return self._arrivals.bring_in(name, timeout_s, version)

    def config(self, name: str) -> ModelConfig | None:
        """Give the configuration that a model was loaded with last, None if it was not seen."""
        with self._lock:
            record = self._records.get(name)
            return record.found.config if record is not None and record.found else None

    def listen(self, listener: Callable[[VersionStatus], None]) -> None:
        """Have `listener` called with each version that was loaded, refused or unloaded.

        On the thread that did it; what the listener raises is logged.
        """
        with self._lock:
            self._listeners.append(listener)

    def close(self) -> None:
        """Load nothing more; unload everything if the runtime is its own."""
        with self._lock:
            self._is_closed = True
        self._arrivals.close()
        if self._watcher is not None:
            self._watcher.stop()
        self._threads.close()
        if self._owns_runtime:
            self.runtime.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # On the watcher's thread.

    def _notice_changes(self, names: set[str]) -> None:
        """What has changed is to be served, whatever was asked for before."""
        with self._lock:
            for name in sorted(names):
                record = self._records.setdefault(name, ModelRecord(name))
                if not record.is_served and not record.loaded():
                    record.is_waiting = self._options.on_demand
                record.is_served = True
                record.refused.clear()
        for name in sorted(names):
            self._submit(name)

    # On the threads that load.

    def _settle(self, name: str, *, retry: bool) -> Failures:
        with self._lock:
            record, root = self._records.get(name), self._root
        if record is None or root is None:
            return {}
        with record.work:
            if self._is_closed:
                return {}
            found = self._look(root, record)
            if found is None:
                self._lifecycle.unload_all(record, "its folder is gone")
                with self._lock:
                    self._records.pop(name, None)
                return {}
            return self._lifecycle.settle(record, found, retry=retry)

    def _look(self, root: Path, record: ModelRecord) -> FoundModel | None:
        if record.override is not None:
            return record.override.look(root, self._defaults)
        return scan_model(root, record.name, self._defaults)

    # On any.

    def _submit(self, name: str, *, retry: bool = False) -> Future[Failures]:
        try:
            return self._threads.submit((name, retry), lambda: self._settle(name, retry=retry))
        except RuntimeError:  # shut down
            raise Unavailable(f"model '{name}': the repository is closed") from None

    def _wait(self, name: str, job: Future[Failures], timeout_s: float | None) -> Failures:
        try:
            failures: Failures = job.result(timeout_s)
        except TimeoutError:
            raise DeadlineExceeded(f"model '{name}': not loaded in time; it goes on") from None
        except CancelledError:
            raise Unavailable(f"model '{name}': the repository is closed") from None
        return failures

    def _known(self, name: str, *, is_new: bool = False) -> ModelRecord:
        """Give a model that is in the folder, seen before or not. Under the lock."""
        record = self._records.get(name)
        root = self._root
        if record is None and root is not None and (is_new or scan_model(root, name) is not None):
            record = self._records[name] = ModelRecord(name)
        if record is None:
            raise ModelNotFound(f"model '{name}': not in the repository {self._given_root}")
        return record

    def _look_for_new(self) -> None:
        """In mode "explicit", know of models that came since the start."""
        if self._options.mode != "explicit" or self._root is None:
            return
        found = scan(self._given_root, self._defaults)
        with self._lock:
            new = [model for model in found if model.name not in self._records]
            for model in new:
                self._records[model.name] = ModelRecord(model.name)
        for model in new:
            self._submit(model.name).result()

    def _check_open(self) -> Path:
        if self._is_closed or self._root is None:
            state = "closed" if self._is_closed else "not started"
            raise Unavailable(f"the repository is {state}")
        return self._root

    def _tell(self, status: VersionStatus) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            try:
                listener(status)
            except Exception:
                _log.exception("a listener failed")
