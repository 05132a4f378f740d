"""Models that come when a request asks for them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pyruntime.errors import Unavailable

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future
    from types import TracebackType

    from pyruntime.repository.records import Failures, ModelRecord

__all__ = ["Arrivals", "Lease"]


class Lease:
    """Keeps a model from being unloaded to make room, while entered.

    Entering gives what is left of the caller's time: seconds, None: no limit.
    """

    def __init__(self, release: Callable[[], None], deadline: float | None) -> None:
        self._release = release
        self._deadline = deadline

    def __enter__(self) -> float | None:
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._release()


class Arrivals:
    """Brings in models that wait for their first request, or were unloaded to make room.

    records: under `lock`. load: begins to load a model. wait: takes a model, its load and seconds;
    raises DeadlineExceeded.

    Threads: all calls from any.
    """

    def __init__(
        self,
        lock: threading.Condition,
        records: Mapping[str, ModelRecord],
        load: Callable[[str], Future[Failures]],
        wait: Callable[[str, Future[Failures], float | None], Failures],
    ) -> None:
        self._lock = lock
        self._records = records
        self._load = load
        self._wait = wait
        self._is_closed = False  # under _lock

    def close(self) -> None:
        """Bring nothing in any more."""
        with self._lock:
            self._is_closed = True

    def is_expected(self, name: str) -> bool:
        """Whether a request for the model would load it now."""
        with self._lock:
            record = self._records.get(name)
            return record is not None and (record.is_waiting or record.arrival is not None)

    def bring_in(
        self, name: str, timeout_s: float | None = None, version: int | None = None
    ) -> Lease | None:
        """Load a model that waits for a request, or wait for whoever does.

        version: that the request names; also loaded if it alone was unloaded to make room.
        Returns what keeps it loaded while entered; None if it does not wait and is not loaded.
        Raises DeadlineExceeded (it goes on loading), and why it cannot be loaded.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            record = self._records.get(name)
            if record is None or self._is_closed:
                return None
            known = None if version is None else record.versions.get(str(version))
            is_missing = known is not None and known.is_evicted and known.model is None
            if is_missing and version is not None:
                record.asked.add(version)
            if record.is_waiting:
                record.is_waiting = False
                record.arrival = self._load(name)
            job = self._load(name) if is_missing else record.arrival
            if job is None and not record.loaded():
                return None
            record.leases += 1
        try:
            if job is not None:
                self._await_arrival(record, job, timeout_s, version if is_missing else None)
        except BaseException:
            self._release(record)
            raise
        return Lease(lambda: self._release(record), deadline)

    def _await_arrival(
        self,
        record: ModelRecord,
        job: Future[Failures],
        timeout_s: float | None,
        version: int | None,
    ) -> None:
        """Wait for a load; raises why nothing is served then, or not the `version` asked for."""
        failures = self._wait(record.name, job, timeout_s)
        with self._lock:
            if record.arrival is job:
                record.arrival = None
            if record.loaded():
                if version is None or version not in failures:
                    return
                raise Unavailable(
                    f"model '{record.name}' version {version}: cannot be loaded: "
                    f"{failures[version]}"
                )
            record.is_waiting = record.is_served
            reason = record.problem or next((str(e) for e in failures.values()), "no version")
        raise Unavailable(f"model '{record.name}': cannot be loaded: {reason}")

    def _release(self, record: ModelRecord) -> None:
        with self._lock:
            record.leases -= 1
