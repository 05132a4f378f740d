"""Keeps what experiments and bandits count, so that they go on after a restart."""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import TYPE_CHECKING

from pyruntime.errors import PyRuntimeError
from pyruntime.telemetry import RouteStats
from pyruntime.traffic_state import TrafficState

if TYPE_CHECKING:
    import logging

    from pyruntime import _core
    from pyruntime.serving_state import StateStore

__all__ = ["TrafficKeeper"]

SAVE_EVERY_S = 10.0
"""What a killed process forgets at most."""


class TrafficKeeper:
    """Writes counts to a store from time to time, on a thread that there is while any are kept.

    Threads: all calls from any.
    """

    def __init__(self, native: _core.Registry, *, save_every_s: float = SAVE_EVERY_S) -> None:
        self._native = native
        self._save_every_s = save_every_s
        self._writing = threading.Lock()  # by who writes files; taken before _changed
        self._changed = threading.Condition()
        # Below: under _changed.
        self._store: StateStore | None = None
        self._awaited: dict[str, TrafficState] = {}  # read, and not served yet
        self._kept: dict[str, TrafficState | None] = {}  # by model: what was written last
        self._thread: threading.Thread | None = None
        self._is_stopping = False

    def restore(self, store: StateStore) -> list[str]:
        """Read what was kept, and keep what is counted from now on; returns what is unreadable."""
        problems = []
        with self._changed:
            self._store = store
            for name in store.models_with_traffic():
                try:
                    state = store.read_traffic(name)
                except PyRuntimeError as error:
                    problems.append(str(error))
                    continue
                if state is not None:
                    self._awaited[name] = state
        return problems

    def note_served(self, name: str, experiment: str) -> None:
        """Go on with an experiment that is served now. experiment: empty: there is none."""
        with self._changed:
            if self._store is None:
                return
            if not experiment:
                self._kept.pop(name, None)
                return
            before = self._awaited.get(name)
            if before is not None and before.experiment == experiment:
                arms = {arm: asdict(counts) for arm, counts in before.arms.items()}
                self._native.restore_traffic(name, experiment, arms)
                del self._awaited[name]
            self._kept.setdefault(name, None)
            if self._thread is None and not self._is_stopping:
                self._thread = threading.Thread(
                    target=self._run, name="pyruntime-traffic", daemon=True
                )
                self._thread.start()

    def save(self) -> None:
        """Write what has changed. Routes can be set meanwhile, however slow the disk is."""
        with self._writing:
            with self._changed:
                store, kept = self._store, dict(self._kept)
            if store is None:
                return
            for name, written in kept.items():
                state = TrafficState.of(RouteStats.from_native(self._native.route_stats(name)))
                if not state.experiment or state == written:
                    continue
                try:
                    store.write_traffic(name, state)
                except PyRuntimeError as error:
                    _log().warning("%s", error)
                    continue
                with self._changed:
                    if name in self._kept:
                        self._kept[name] = state

    def stop(self) -> None:
        """Write a last time, and end the thread."""
        with self._changed:
            self._is_stopping = True
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        if thread is not None:
            thread.join()
            self.save()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_stopping, self._save_every_s)
                if self._is_stopping:
                    return
                if not self._kept:
                    self._thread = None
                    return
            self.save()


def _log() -> logging.Logger:
    import logging

    return logging.getLogger("pyruntime.routing")
