"""Latencies counted in buckets of nearly equal relative width, so that any number of them is small.

As in HdrHistogram: every power of two of nanoseconds is divided into 128 buckets, and what is
below 256 ns is exact. csrc/probe/histogram.h counts in the same buckets.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["BUCKETS_PER_OCTAVE", "Histogram", "bucket_of", "bucket_us"]

BUCKETS_PER_OCTAVE = 128
_BITS = 7  # 2**_BITS == BUCKETS_PER_OCTAVE

Integers = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


def bucket_of(times_ns: Any) -> Integers:
    """Index of the bucket of each of the times, which are at least 0."""
    times = np.asarray(times_ns, np.int64)
    # The position of the highest bit, exact up to 2**53.
    _, exponents = np.frexp(times.astype(np.float64))
    shifts = np.maximum(exponents.astype(np.int64) - 1 - _BITS, 0)
    return np.asarray(shifts * BUCKETS_PER_OCTAVE + (times >> shifts), np.int64)


def bucket_us(index: Any) -> tuple[Floats, Floats]:
    """Bounds of buckets: times from the first on and below the second, microseconds."""
    index = np.asarray(index, np.int64)
    shifts = np.maximum(index // BUCKETS_PER_OCTAVE - 1, 0)
    low = (index - shifts * BUCKETS_PER_OCTAVE) << shifts
    return low / 1e3, (low + (1 << shifts)) / 1e3


@dataclass(frozen=True, slots=True)
class Histogram:
    """Latencies in buckets; quantiles are within 0.4 %, sum and extremes exact.

    counts: by index of the bucket, those that are not empty, the fastest first.
    min_us, max_us, sum_us: of all; 0 of none.
    """

    counts: Mapping[int, int]
    min_us: float
    max_us: float
    sum_us: float

    @classmethod
    def of_ns(cls, times_ns: Any) -> "Histogram":
        """Count times in nanoseconds."""
        times = np.asarray(times_ns, np.int64)
        if times.size == 0:
            return cls({}, 0.0, 0.0, 0.0)
        if (least := int(times.min())) < 0:
            raise ValueError(f"times_ns: expected at least 0, got {least}")
        index, counts = np.unique(bucket_of(times), return_counts=True)
        return cls(
            dict(zip(index.tolist(), counts.tolist(), strict=True)),
            least / 1e3,
            int(times.max()) / 1e3,
            float(times.sum(dtype=np.float64)) / 1e3,
        )

    @classmethod
    def merged(cls, histograms: Iterable["Histogram"]) -> "Histogram":
        """All of them in one."""
        some = [each for each in histograms if each.counts]
        if not some:
            return cls({}, 0.0, 0.0, 0.0)
        counts: dict[int, int] = {}
        for each in some:
            for index, count in each.counts.items():
                counts[index] = counts.get(index, 0) + count
        return cls(
            dict(sorted(counts.items())),
            min(each.min_us for each in some),
            max(each.max_us for each in some),
            sum(each.sum_us for each in some),
        )

    @property
    def count(self) -> int:
        """How many times were counted."""
        return sum(self.counts.values())

    @property
    def mean_us(self) -> float:
        """NaN of none."""
        count = self.count
        return self.sum_us / count if count else float("nan")

    def quantile(self, fraction: float) -> float:
        """The least time that `fraction` (0 to 1) of all do not exceed, us; NaN of none."""
        return float(self.quantiles([fraction])[0])

    def quantiles(self, fractions: Any) -> Floats:
        """As quantile(), of several."""
        fractions = np.asarray(fractions, np.float64)
        if not self.counts:
            return np.full(fractions.shape, np.nan)
        index, counts = self._arrays()
        upto = np.cumsum(counts)
        total = int(upto[-1])
        # The slack keeps 0.07 * 100 from becoming rank 8.
        ranks = np.clip(np.ceil(fractions * total - 1e-9 * total), 1, total)
        low, high = bucket_us(index[np.searchsorted(upto, ranks)])
        values = np.clip((low + high - 1e-3) / 2, self.min_us, self.max_us)
        # The extremes are known better than their buckets.
        values[ranks == 1] = self.min_us
        values[ranks == total] = self.max_us
        return np.asarray(values, np.float64)

    def cumulative(self) -> tuple[Floats, Floats]:
        """For a plot: upper bounds of the buckets, us, and the share of all up to there."""
        index, counts = self._arrays()
        _, high = bucket_us(index)
        return np.minimum(high, self.max_us), np.cumsum(counts) / max(1, self.count)

    def _arrays(self) -> tuple[Integers, Integers]:
        index = np.fromiter(self.counts.keys(), np.int64, len(self.counts))
        counts = np.fromiter(self.counts.values(), np.int64, len(self.counts))
        order = np.argsort(index)
        return index[order], counts[order]
