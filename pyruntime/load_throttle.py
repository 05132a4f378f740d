"""Holds loads back while requests to other models feel them.

A load asks between its steps. While requests take longer than they did without loads, it waits:
until they do not any more, or until it is clear that they are slow without a load, too.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

from pyruntime.errors import Unavailable
from pyruntime.latency_watch import LatencyWatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from pyruntime.latency_watch import Latencies, Version

__all__ = ["LoadThrottle", "PacedLoad"]

LOOK_EVERY_S = 0.05

SETTLED_S = 1.0
"""What is still slow after so long without a load is so by itself."""

PATIENCE_S = 30.0
"""A load is held back no longer altogether."""


class LoadThrottle:
    """Lets the loads of one runtime go on or wait.

    read: gives the latencies of all that is served, since each was loaded.
    clock: seconds, monotonic. sleep: None: until close() at most.

    Threads: all calls from any.
    """

    def __init__(
        self,
        read: Callable[[], Latencies],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._read = read
        self._clock = clock
        self._closed = threading.Event()
        self._sleep = self._closed.wait if sleep is None else sleep
        self._lock = threading.Lock()
        # Below: under _lock.
        self._watch = LatencyWatch()
        self._working = 0  # loads that are not held back
        self._quiet_since = 0.0  # while none works
        self._looked_at = 0.0
        self._held: dict[Version, str] = {}

    def begin(self, name: str, version: int) -> PacedLoad:
        """Let a load work, once entered, step by step; may hold it back before the first."""
        return PacedLoad(self, (name, version))

    def why_held(self, name: str, version: int) -> str:
        """Say why a load waits; empty: it does not."""
        with self._lock:
            return self._held.get((name, version), "")

    def close(self) -> None:
        """Let every load go on, to find out that it is not wanted any more."""
        self._closed.set()

    # For PacedLoad.

    def _start(self) -> None:
        with self._lock:
            if self._working == 0:
                self._watch.quiet_ends(self._read())
            self._working += 1

    def _stop(self) -> None:
        with self._lock:
            seen = self._read()
            self._watch.look(seen)
            self._working -= 1
            if self._working == 0:
                self._watch.restart(seen)
                self._quiet_since = self._clock()

    def _is_felt(self) -> bool:
        """Whether loads are, by what was seen since the last look."""
        with self._lock:
            now = self._clock()
            if now - self._looked_at >= LOOK_EVERY_S:
                self._looked_at = now
                seen = self._read()
                if self._working:
                    self._watch.look(seen)
                else:
                    is_settled = now - self._quiet_since >= SETTLED_S
                    self._watch.look_at_quiet(seen, is_settled=is_settled)
            return bool(self._watch.felt) and not self._closed.is_set()

    def _hold(self, load: Version, until: float) -> None:
        """Wait, no longer than `until`, while loads are felt; the load does not work meanwhile."""
        while self._clock() < until and self._is_felt():
            with self._lock:
                self._held[load] = next(iter(self._watch.felt.values()), "")
            self._sleep(LOOK_EVERY_S)
        with self._lock:
            self._held.pop(load, None)


class PacedLoad:
    """One load that gives way. Threads: one at a time."""

    def __init__(self, throttle: LoadThrottle, version: Version) -> None:
        self._throttle = throttle
        self._version = version
        self._left_s = PATIENCE_S

    def step(self) -> None:
        """Wait while requests feel loads. Raises Unavailable when no load is wanted any more."""
        if self._throttle._closed.is_set():
            name, number = self._version
            raise Unavailable(f"model '{name}' version {number}: nothing is loaded any more")
        if self._left_s > 0 and self._throttle._is_felt():
            self._throttle._stop()
            self._wait()
            self._throttle._start()

    def __enter__(self) -> Self:
        self._wait()
        self._throttle._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._throttle._stop()

    def _wait(self) -> None:
        since = self._throttle._clock()
        self._throttle._hold(self._version, since + self._left_s)
        self._left_s -= self._throttle._clock() - since
