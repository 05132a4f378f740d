"""Takes a Runtime's rollouts from step to step, on a thread of its own."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyruntime.errors import ModelNotFound, PyRuntimeError
from pyruntime.rollout import Observation, RolloutMachine

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from pyruntime.rollout import Rollout
    from pyruntime.runtime import Runtime

__all__ = ["RolloutDriver", "RolloutStatus"]

LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class RolloutStatus:
    """A rollout and what it waits for; empty: nothing."""

    rollout: Rollout
    waits_for: str = ""


class RolloutDriver:
    """Looks at what runs, and ends its thread when nothing does. Threads: all calls from any.

    clock: seconds, monotonic.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        look_every_s: float = LOOK_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runtime = runtime
        self._look_every_s = look_every_s
        self._clock = clock
        self._changed = threading.Condition()
        # Below: under _changed.
        self._machines: dict[str, RolloutMachine] = {}
        self._thread: threading.Thread | None = None
        self._is_stopping = False

    def wake(self) -> None:
        """See to rollouts that were begun or restored."""
        with self._changed:
            if self._thread is None and not self._is_stopping:
                self._thread = threading.Thread(
                    target=self._run, name="pyruntime-rollouts", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def stop(self) -> None:
        """End the thread; rollouts stay where they are."""
        with self._changed:
            self._is_stopping = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def waits_for(self, name: str) -> str:
        """Say what the rollout of a model waits for."""
        with self._changed:
            machine = self._machines.get(name)
            return machine.waits_for if machine is not None else ""

    def look(self) -> None:
        """Take every rollout one step further that may go."""
        running = self._runtime._routes.running()
        with self._changed:
            for name in set(self._machines) - set(running):
                del self._machines[name]
            machines = []
            for name, rollout in running.items():
                machine = self._machines.get(name)
                if machine is None or machine.rollout != rollout:
                    machine = self._machines[name] = RolloutMachine(rollout, self._clock)
                machines.append((name, machine))
        for name, machine in machines:
            try:
                self._look_at(name, machine)
            except PyRuntimeError as error:  # its state could not be kept: it stays where it is
                _log().warning("rollout of model '%s': %s", name, error)

    def _look_at(self, name: str, machine: RolloutMachine) -> None:
        before = machine.rollout
        after = machine.advance(self._observe(name, before))
        if after == before:
            return
        machine.enter(self._runtime._routes.move_on(name, before, after))
        version = f"model '{name}' version {after.version}"
        if after.status == "rolled_back":
            _log().warning("%s: rolled back %s", version, after.reason)
        elif after.status == "promoted":
            _log().info("%s: promoted, it answers all requests", version)
        else:
            _log().info("%s: %g %% of the requests", version, after.percent)

    def _observe(self, name: str, rollout: Rollout) -> Observation:
        missing = []
        for version in (rollout.stable, rollout.version):
            try:
                self._runtime._native.find(name, version)
            except ModelNotFound:
                missing.append(version)
        return Observation(self._runtime.route_stats(name), tuple(missing))

    def _run(self) -> None:
        while True:
            self.look()
            with self._changed:
                # Under the lock: whoever begins one now wakes another thread.
                if self._is_stopping or not self._runtime._routes.running():
                    self._thread = None
                    return
                self._changed.wait(self._look_every_s)


def _log() -> logging.Logger:
    """Logger of rollouts; its module is not worth its import for who has none."""
    import logging

    return logging.getLogger("pyruntime.rollout")
