"""Threads for calls of one kind."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class CallThreads(ThreadPoolExecutor):
    """A pool that knows how many calls are under way, from submission to return.

    gRPC's server asks is_full and then calls submit() on one thread, so that no more than
    `limit` calls are ever under way, and none waits behind another.
    """

    def __init__(self, limit: int, name: str) -> None:
        super().__init__(max_workers=limit, thread_name_prefix=f"pyruntime-{name}")
        self.limit = limit
        self._changed = threading.Condition()
        self._under_way = 0

    @property
    def is_full(self) -> bool:
        """Whether a further call would have to wait for a thread."""
        return self._under_way >= self.limit

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn` on a thread of the pool."""
        with self._changed:
            self._under_way += 1
        try:
            return super().submit(self._run, fn, *args, **kwargs)
        except BaseException:
            self._leave()
            raise

    def wait_idle(self, deadline: float) -> bool:
        """Wait until no call is under way, at the longest until time.monotonic() is `deadline`."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._under_way == 0, timeout=max(0.0, deadline - time.monotonic())
            )

    def _run(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return fn(*args, **kwargs)
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._changed:
            self._under_way -= 1
            if self._under_way == 0:
                self._changed.notify_all()
