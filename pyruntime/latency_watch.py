"""Whether requests to models take longer while something goes on than they do without it.

A model version's latencies come as a histogram of all its requests so far. Between two looks lies
a window; one in which nothing went on is quiet, and what was seen in the last thousand or so quiet
requests is what later ones are held against.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from pyruntime.binomial import tail_of_binomial

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Latencies", "LatencyWatch"]

Version: TypeAlias = tuple[str, int]
Buckets: TypeAlias = "Mapping[float, float]"
"""Requests by the smallest time of their bucket, microseconds."""
Latencies: TypeAlias = "Mapping[Version, Buckets]"

FACTOR = 1.25
"""Requests are slow from so many times the quiet p99 on."""

CHANCE = 1e-3
"""So many slow requests are no chance when chance gives them less often than this."""

LEAST = 100
"""Requests that a window must have to say anything."""

REMEMBERED = 1000
"""Quiet requests that those of a new window stand beside; of more, all are forgotten."""


class LatencyWatch:
    """Compares windows. Threads: one at a time.

    felt: versions whose requests have become slow and not recovered since, and by how much.
    """

    def __init__(self) -> None:
        self.felt: dict[Version, str] = {}
        self._marks: dict[Version, Buckets] = {}  # seen when the window began
        self._quiet: dict[Version, Buckets] = {}

    def quiet_ends(self, seen: Latencies) -> None:
        """Learn from a quiet window; another window begins."""
        for version, window in self._windows(seen):
            if version not in self.felt:
                self._learn(version, window)
        self.restart(seen)

    def look(self, seen: Latencies) -> None:
        """Judge a window in which something went on; another one begins where there was enough."""
        for version, window in self._windows(seen):
            if _count(window) < LEAST:
                continue
            self._marks[version] = seen[version]
            reason = self._why_slow(version, window)
            if reason:
                self.felt[version] = reason
            else:
                self.felt.pop(version, None)

    def look_at_quiet(self, seen: Latencies, *, is_settled: bool) -> None:
        """Judge a window in which nothing went on.

        is_settled: whether that has lasted so long that whatever is slow now, is so by itself.
        """
        windows = dict(self._windows(seen))
        for version in list(self.felt):
            window = windows.get(version, {})
            is_enough = _count(window) >= LEAST
            is_slow = not is_enough or bool(self._why_slow(version, window))
            if is_settled and is_slow and is_enough:
                self._quiet[version] = window
            if is_settled or not is_slow or version not in seen:
                del self.felt[version]
            elif is_enough:
                self._marks[version] = seen[version]

    def restart(self, seen: Latencies) -> None:
        """Begin a window."""
        self._marks = dict(seen)
        self._quiet = {version: self._quiet[version] for version in seen if version in self._quiet}

    def _windows(self, seen: Latencies) -> Iterator[tuple[Version, dict[float, float]]]:
        for version, buckets in seen.items():
            before = self._marks.get(version, {})
            window = {us: n - before.get(us, 0) for us, n in buckets.items()}
            if _count(buckets) < _count(before):  # another one of this number
                self._marks[version] = buckets
                self._quiet.pop(version, None)
                continue
            yield version, {us: n for us, n in window.items() if n > 0}

    def _learn(self, version: Version, window: Buckets) -> None:
        n = _count(window)
        before = self._quiet.get(version, {})
        scale = 0.0 if n >= REMEMBERED else min(1.0, REMEMBERED / max(_count(before), 1))
        merged = {us: scale * m for us, m in before.items() if scale}
        for us, m in window.items():
            merged[us] = merged.get(us, 0) + m
        self._quiet[version] = merged

    def _why_slow(self, version: Version, window: Buckets) -> str:
        """Say by how much; empty: it is not, or that is not known."""
        quiet = self._quiet.get(version, {})
        if _count(quiet) < LEAST:
            return ""
        quiet_us = _p99_us(quiet)
        n = round(_count(window))
        slow = round(sum(m for us, m in window.items() if us >= FACTOR * quiet_us))
        # Of requests as before, one in a hundred at most is slow.
        if slow == 0 or tail_of_binomial(slow, n, 0.01) >= CHANCE:
            return ""
        name, number = version
        return (
            f"model '{name}' version {number} has a p99 of {_p99_us(window):.0f} us, "
            f"without loads {quiet_us:.0f} us"
        )


def _count(buckets: Buckets) -> float:
    return sum(buckets.values())


def _p99_us(buckets: Buckets) -> float:
    left = 0.01 * _count(buckets)
    for us in sorted(buckets, reverse=True):
        left -= buckets[us]
        if left < 0:
            return us
    return 0.0
