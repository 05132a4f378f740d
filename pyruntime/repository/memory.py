"""What loaded versions need of memory, and who goes when that is too much.

A version's size is measured: by how much what the process's allocator has lent out grew while it
was loaded and warmed up, together with its buffer pools, which are mapped apart, as they are now.
Files that the system maps are its cache and do not count. What other models allocate and keep
during the load is counted with it; what the engine allocates later is not.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pyruntime.errors import Overloaded

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping

    from pyruntime.repository.records import ModelRecord, VersionRecord
    from pyruntime.repository.scan import FoundVersion
    from pyruntime.runtime import Runtime

__all__ = ["MemoryBudget", "process_bytes"]

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class _MallInfo2(ctypes.Structure):
    """Of malloc.h. uordblks: bytes lent out of heaps; hblkhd: lent out by mmap."""

    _fields_: ClassVar = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def process_bytes() -> int:
    """Memory that this process's allocator has lent out; what is resident where it cannot say."""
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)  # glibc 2.33 and later
    if mallinfo2 is None:
        _, resident, shared, *_ = Path("/proc/self/statm").read_text().split()
        return (int(resident) - int(shared)) * _PAGE_BYTES
    mallinfo2.restype = _MallInfo2
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)


def pool_bytes(version: VersionRecord) -> int:
    """Memory that a loaded version's buffer pools hold now."""
    return version.model.stats().pool.held_bytes if version.model is not None else 0


class MemoryBudget:
    """Makes room for what is to be loaded.

    limit_bytes: None: no limit. records: under `lock`. runtime: says which versions are needed.
    unload: takes a record whose `work` is held, a version and a reason.

    Threads: all calls from any that hold the `work` of the record that needs room.
    """

    def __init__(
        self,
        limit_bytes: int | None,
        runtime: Runtime,
        lock: threading.Condition,
        records: Mapping[str, ModelRecord],
        unload: Callable[[ModelRecord, int, str], None],
    ) -> None:
        self._limit = limit_bytes
        self._runtime = runtime
        self._lock = lock
        self._records = records
        self._unload = unload

    def used(self) -> int:
        """Bytes of all that is loaded."""
        with self._lock:
            records = list(self._records.values())
            versions = [one for record in records for one in record.loaded().values()]
        return sum(size_now(one) for one in versions)

    def make_room(self, record: ModelRecord, known: VersionRecord, found: FoundVersion) -> None:
        """Unload others until a version fits, as large as it was last time or its files are."""
        expected = known.measured_bytes or sum(size for _, size, _, _ in found.stamp)
        self._evict(record, expected)

    def check(self, record: ModelRecord, size_bytes: int) -> None:
        """Make room for what was measured. Raises Overloaded if it cannot be had."""
        missing = self._evict(record, size_bytes)
        if missing > 0 and self._limit is not None:
            raise Overloaded(
                f"memory budget of {mib(self._limit)}: expected at most "
                f"{mib(max(size_bytes - missing, 0))} that are free or can be freed, "
                f"got {mib(size_bytes)}"
            )

    def _evict(self, record: ModelRecord, needed: int) -> int:
        """Free memory until `needed` bytes fit; give what is missing, 0 or less: nothing."""
        if self._limit is None:
            return 0
        while (missing := self.used() + needed - self._limit) > 0:
            if not (self._evict_kept(record) or self._evict_model(record)):
                return missing
        return 0

    def _evict_kept(self, record: ModelRecord) -> bool:
        """Unload the version that was replaced longest ago."""
        with self._lock:
            kept = [
                (one.kept_since, other.name, number)
                for other in self._records.values()
                for number, one in other.loaded().items()
                if one.is_kept
                and not is_busy(other, one)
                # It may have got a label since.
                and number not in self._runtime.versions_in_use(other.name)
            ]
        for _, name, number in sorted(kept):
            victim = self._records.get(name)
            if victim is None or not self._take(victim, record):
                continue
            try:
                if (one := victim.loaded().get(number)) is not None and one.is_kept:
                    self._evict_one(victim, number, "unloaded to make room")
                    return True
            finally:
                self._leave(victim, record)
        return False

    def _evict_model(self, record: ModelRecord) -> bool:
        """Unload the model that was used least recently, and have its next request load it."""
        with self._lock:
            idle = sorted(
                (last_used(other), other.name)
                for other in self._records.values()
                if other is not record and other.loaded() and self._may_go(other)
            )
        for _, name in idle:
            victim = self._records.get(name)
            if victim is None or not self._take(victim, record):
                continue
            try:
                with self._lock:
                    numbers = list(victim.loaded())
                    if not numbers or not self._may_go(victim):
                        continue
                    victim.is_waiting, victim.arrival = True, None
                for number in numbers:
                    reason = "unloaded to make room; its next request loads it"
                    self._evict_one(victim, number, reason)
                return True
            finally:
                self._leave(victim, record)
        return False

    def _evict_one(self, victim: ModelRecord, number: int, reason: str) -> None:
        with self._lock:
            victim.versions[str(number)].is_evicted = True
        self._unload(victim, number, reason)

    def _may_go(self, record: ModelRecord) -> bool:
        """Whether nobody needs any of a model's versions before its next request."""
        config = record.found.config if record.found is not None else None
        if config is None or not config.memory.evict or self._runtime.is_rolling_out(record.name):
            return False
        return not any(is_busy(record, one) for one in record.loaded().values())

    def _take(self, victim: ModelRecord, record: ModelRecord) -> bool:
        return victim is record or victim.work.acquire(blocking=False)

    def _leave(self, victim: ModelRecord, record: ModelRecord) -> None:
        if victim is not record:
            victim.work.release()


def size_now(version: VersionRecord) -> int:
    """Measured at the load, and what its pools have grown by since."""
    return version.measured_bytes + max(pool_bytes(version) - version.pool_bytes_then, 0)


def is_busy(record: ModelRecord, version: VersionRecord) -> bool:
    """Whether somebody uses a version, or is about to."""
    model = version.model
    return record.leases > 0 or (model is not None and model._native().outstanding > 0)


def last_used(record: ModelRecord) -> float:
    """When a model was loaded or last answered, seconds since 1970."""
    return max(
        # What completed since the load may bear the millisecond before it.
        max(one.loaded_at - 1e-3, one.model.stats().last_completed_unix_ms / 1e3)
        for one in record.loaded().values()
        if one.model is not None
    )


def mib(size_bytes: int) -> str:
    """Write a size."""
    return f"{size_bytes / 2**20:.1f} MiB"
