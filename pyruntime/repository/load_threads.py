"""The threads that load."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LoadThreads"]


class LoadThreads:
    """Runs a job for each model: who asks for one that waits already shares it.

    Threads: all calls from any.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="pyruntime-load")
        self._lock = threading.Lock()
        self._waiting: dict[object, Future[Any]] = {}  # not begun

    def submit(self, key: object, job: Callable[[], Any]) -> Future[Any]:
        """Run `job`, unless one of the same key has not begun yet; then give that one."""
        with self._lock:
            waiting = self._waiting.get(key)
            if waiting is not None and not waiting.cancelled():
                return waiting
            future = self._pool.submit(self._run, key, job)
            self._waiting[key] = future
            return future

    def close(self) -> None:
        """Give up what has not begun, and wait for the rest."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, key: object, job: Callable[[], Any]) -> Any:
        with self._lock:
            self._waiting.pop(key, None)
        return job()
