"""Brings the versions of one model to what its folder and its users want.

A version that takes another's place is ready before that one goes. What cannot be served leaves
what is served alone, and says why.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING

from pyruntime.errors import ModelNotFound, PyRuntimeError
from pyruntime.repository.loading import load_version
from pyruntime.repository.memory import pool_bytes
from pyruntime.repository.policy import plan
from pyruntime.repository.records import VersionRecord
from pyruntime.repository.status import State

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping

    from pyruntime.repository.memory import MemoryBudget
    from pyruntime.repository.policy import Plan
    from pyruntime.repository.records import ModelRecord
    from pyruntime.repository.scan import FoundModel, FoundVersion, Stamp
    from pyruntime.repository.status import VersionStatus
    from pyruntime.runtime import Runtime

__all__ = ["Lifecycle"]

_log = logging.getLogger("pyruntime.repository")


class Lifecycle:
    """Loads and unloads versions of a runtime.

    lock: of the records. tell: called with what has become of a version, without the lock.
    budget: makes room for what is loaded.

    Threads: all calls from any that hold the record's `work`.
    """

    def __init__(
        self,
        runtime: Runtime,
        lock: threading.Condition,
        tell: Callable[[VersionStatus], None],
        budget: MemoryBudget,
        *,
        loads_gently: bool,
    ) -> None:
        self._loads_gently = loads_gently
        self._runtime = runtime
        self._budget = budget
        self._lock = lock
        self._tell = tell

    def settle(
        self, record: ModelRecord, found: FoundModel, *, retry: bool
    ) -> dict[int, PyRuntimeError]:
        """Load what the plan says, and let go of the rest.

        retry: also what could not be loaded and has not changed. Returns what is still not,
        by version.
        """
        self._note(record, found)
        if found.problem is not None or not record.is_served:
            return {}
        config = found.config
        self._runtime.declare_routing(record.name, labels=config.labels, route=config.route)
        if record.is_waiting:
            return {}
        todo = plan(
            config,
            (v.number for v in found.versions if v.number is not None and v.problem is None),
            asked=record.asked | self._runtime.versions_in_use(record.name),
            refused=record.refused,
        )
        ready: list[int] = []
        failures: dict[int, PyRuntimeError] = {}
        for number in todo.numbers:
            if not todo.wants(number, ready):
                continue
            try:
                self._ensure(record, found, number, retry=retry)
            except PyRuntimeError as error:
                failures[number] = _bare(error)
            else:
                ready.append(number)
        self._retire(record, found, todo, ready)
        return failures

    def unload(self, record: ModelRecord, number: int, reason: str) -> None:
        """Stop serving a version, answer what it has accepted, and free it."""
        with self._lock:
            version = record.versions[str(number)]
            version.state, version.reason = State.UNLOADING, reason
        with contextlib.suppress(ModelNotFound):  # the program itself was first
            self._runtime.unload(record.name, number)
        with self._lock:
            version.state, version.reason = State.UNAVAILABLE, reason
            version.model, version.is_kept = None, False
            self._lock.notify_all()
        self._tell(version.status(record.name))

    def unload_all(self, record: ModelRecord, reason: str) -> None:
        """Unload every version, the highest last, so that it answers to the end."""
        with self._lock:
            numbers = list(record.loaded())
        for number in numbers:
            self.unload(record, number, reason)

    def _note(self, record: ModelRecord, found: FoundModel) -> None:
        """Remember what is there now; loaded versions are changed by _ensure alone."""
        with self._lock:
            record.found = found
            record.problem = found.problem or ""
            names = {version.name for version in found.versions}
            for name in list(record.versions):
                if name not in names and record.versions[name].model is None:
                    del record.versions[name]
            for version in found.versions:
                known = record.versions.setdefault(version.name, VersionRecord(version.name))
                known.is_failed = version.problem is not None
                if known.model is None:
                    known.reason = version.problem or (
                        "waits for its first request" if record.is_waiting else "not asked for"
                    )

    def _ensure(self, record: ModelRecord, found: FoundModel, number: int, *, retry: bool) -> None:
        """Have a version loaded as it is now. Raises why that is not possible."""
        version = found.find(number)
        if version is None:
            raise ModelNotFound(f"model '{record.name}' has no version {number}")
        stamp = version.stamp + found.stamp
        with self._lock:
            known = record.versions[version.name]
            if known.model is not None and known.stamp == stamp:
                known.is_kept, known.reason = False, ""
                return
            if known.failed == stamp and known.error is not None and not retry:
                self._refuse(known, stamp, known.error)
                raise _bare(known.error)
            known.state = State.LOADING if known.model is None else State.READY
            known.reason = "" if known.model is None else "its changed files are being loaded"
        try:
            self._load(record, known, found, version, stamp)
        except PyRuntimeError as error:
            self._fail(record, known, stamp, error)
            raise

    def _load(
        self,
        record: ModelRecord,
        known: VersionRecord,
        found: FoundModel,
        version: FoundVersion,
        stamp: Stamp,
    ) -> None:
        self._budget.make_room(record, known, version)
        measured = 0

        def check_size(size_bytes: int) -> None:
            nonlocal measured
            measured = size_bytes
            with self._lock:
                if known.model is None:
                    known.measured_bytes = size_bytes  # what to expect the next time
            self._budget.check(record, size_bytes)

        loaded = load_version(self._runtime, found, version, check_size, gently=self._loads_gently)
        with self._lock:
            known.state, known.reason = State.READY, loaded.note
            known.model, known.seconds = loaded.model, loaded.seconds
            known.stamp, known.failed, known.error = stamp, None, None
            known.is_kept, known.is_failed, known.is_evicted = False, False, False
            known.measured_bytes, known.loaded_at = measured, time.time()
            known.pool_bytes_then = pool_bytes(known)
            self._lock.notify_all()
        self._tell(known.status(record.name))

    def _fail(
        self, record: ModelRecord, known: VersionRecord, stamp: Stamp, error: PyRuntimeError
    ) -> None:
        with self._lock:
            self._refuse(known, stamp, error)
            self._lock.notify_all()
        self._tell(known.status(record.name))

    def _refuse(self, known: VersionRecord, stamp: Stamp, error: PyRuntimeError) -> None:
        known.failed, known.error, known.is_failed = stamp, _bare(error), True
        # One line, which need not name the version again.
        _, version, reason = str(error).rpartition(f" version {known.name}: ")
        reason = " ".join((reason if version else str(error)).split())
        if known.model is None:
            known.state, known.reason = State.UNAVAILABLE, reason
        else:
            known.reason = f"its changed files cannot be served: {reason}"

    def _retire(self, record: ModelRecord, found: FoundModel, todo: Plan, ready: list[int]) -> None:
        """Keep a few versions that others took the place of, and unload the rest."""
        with self._lock:
            loaded = record.loaded()
            if todo.numbers and not ready:
                return  # what is loaded is all there is
            surplus = {number: one for number, one in loaded.items() if number not in ready}
            there = {version.number for version in found.versions} - record.refused
            kept = {number: one for number, one in surplus.items() if number in there}
            self._keep(kept, found.config.versions.keep)
        for number, one in surplus.items():
            if not one.is_kept:
                reason = "its folder is gone" if number not in there else "not wanted any more"
                self.unload(record, number, reason)

    def _keep(self, candidates: Mapping[int, VersionRecord], most: int) -> None:
        """Mark those that stay: the ones that were wanted last."""
        for one in candidates.values():
            if not one.is_kept:
                one.is_kept, one.kept_since = True, time.monotonic()
                one.reason = "kept for going back to"
        by_age = sorted(candidates.items(), key=lambda item: (item[1].kept_since, item[0]))
        for _, one in by_age[: max(len(by_age) - most, 0)]:
            one.is_kept = False


def _bare(error: PyRuntimeError) -> PyRuntimeError:
    """Give the same without a traceback, whose frames would keep what was loaded in memory."""
    return type(error)(str(error))
