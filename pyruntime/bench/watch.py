"""What a repetition uses while it runs: looked at from a thread of its own."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyruntime.bench.load.target import Target

if TYPE_CHECKING:
    from pyruntime.bench.gpu import GpuWatch

__all__ = ["Used", "Watch"]

_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Used:
    """See Repetition, whose fields these become."""

    cpu_s: float | None
    peak_bytes: int | None
    batch_rows: Mapping[int, int] | None
    gpu: Mapping[str, float] | None
    others_share: float | None


@dataclass(frozen=True, slots=True)
class _Machine:
    """Processor time since the machine began: of all, of them busy or stolen, of this process."""

    all_s: float
    busy_s: float
    own_s: float

    @classmethod
    def now(cls) -> "_Machine":
        import psutil

        times = psutil.cpu_times()
        # Time of guests is in user's already.
        guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        all_s = sum(times) - guests
        idle_s = times.idle + getattr(times, "iowait", 0.0)
        return cls(all_s, all_s - idle_s, time.process_time())


class Watch:
    """Context manager around a repetition; `used` says afterwards what it used."""

    used: Used

    def __init__(self, target: Target, gpu: "GpuWatch | None", *, is_inproc: bool) -> None:
        self._target = target
        self._is_inproc = is_inproc
        self._gpu = gpu
        self._peak_bytes = 0
        self._stops = threading.Event()
        self._thread = threading.Thread(target=self._look, name="bench-watch", daemon=True)

    def __enter__(self) -> "Watch":
        self._batches = self._target.batches()
        if self._gpu:
            self._gpu.start()
        self._before = self._target.usage()
        self._machine = _Machine.now()
        self._peak_bytes = self._before.resident_bytes or 0
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stops.set()
        self._thread.join()
        machine = _Machine.now()
        after = self._target.usage()
        cpu_s = None
        if after.cpu_s is not None and self._before.cpu_s is not None:
            cpu_s = after.cpu_s - self._before.cpu_s
        peak = max(self._peak_bytes, after.resident_bytes or 0)
        self.used = Used(
            cpu_s=cpu_s,
            peak_bytes=peak or None,
            batch_rows=self._batches_since(),
            gpu=self._gpu.stop() if self._gpu else None,
            others_share=self._others_share(machine, cpu_s),
        )

    def _look(self) -> None:
        while not self._stops.wait(_EVERY_S):
            self._peak_bytes = max(self._peak_bytes, self._target.usage().resident_bytes or 0)
            if self._gpu:
                self._gpu.sample()

    def _others_share(self, after: "_Machine", cpu_s: float | None) -> float | None:
        before = self._machine
        known_s = after.own_s - before.own_s
        if not self._is_inproc:
            if cpu_s is None:
                return None  # a server that is here would count as another
            known_s += cpu_s
        all_s = after.all_s - before.all_s
        if all_s <= 0:
            return None
        return min(1.0, max(0.0, (after.busy_s - before.busy_s - known_s) / all_s))

    def _batches_since(self) -> dict[int, int] | None:
        after = self._target.batches()
        if after is None or self._batches is None:
            return None
        grown = {rows: count - self._batches.get(rows, 0) for rows, count in after.items()}
        return {rows: count for rows, count in sorted(grown.items()) if count > 0}
