"""Histograms: what they keep of the times that they count."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pyruntime.bench.histogram import Histogram, bucket_of, bucket_us

QUANTILES = [0, 0.001, 0.5, 0.9, 0.99, 0.999, 1]


def test_every_time_lies_within_its_bucket_and_buckets_are_narrow() -> None:
    times = np.unique(np.concatenate([np.arange(5000), np.logspace(3, 15, 5000).astype(np.int64)]))
    low, high = bucket_us(bucket_of(times))
    assert np.all(low * 1e3 <= times)
    assert np.all(times < high * 1e3)
    assert np.all((high - low) * 1e3 <= np.maximum(1, times / 128) * (1 + 1e-6))


def test_buckets_follow_each_other_without_a_gap() -> None:
    low, high = bucket_us(np.arange(5000))
    assert low[0] == 0
    assert np.array_equal(low[1:], high[:-1])
    assert np.array_equal(bucket_of(np.round(low * 1e3).astype(np.int64)), np.arange(5000))


@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0])
def test_quantiles_are_within_half_a_percent(spread: float) -> None:
    times = (1e6 * np.random.default_rng(0).lognormal(0, spread, 100_000)).astype(np.int64)
    found = Histogram.of_ns(times).quantiles(QUANTILES)
    exact = np.quantile(times, QUANTILES, method="inverted_cdf") / 1e3
    assert found == pytest.approx(exact, rel=0.005)


def test_count_sum_and_extremes_are_exact() -> None:
    histogram = Histogram.of_ns([5, 1_000_003, 7_000_001])
    assert histogram.count == 3
    assert (histogram.min_us, histogram.max_us) == (0.005, 7000.001)
    assert histogram.sum_us == pytest.approx(8000.009)
    assert histogram.mean_us == pytest.approx(8000.009 / 3)
    assert (histogram.quantile(0), histogram.quantile(1)) == (0.005, 7000.001)


def test_a_quantile_is_the_least_time_that_so_many_do_not_exceed() -> None:
    histogram = Histogram.of_ns(np.arange(1, 101))  # below 256 ns all are exact
    for percent in range(1, 101):
        assert histogram.quantile(percent / 100) == pytest.approx(percent / 1e3, abs=0.6e-3)


def test_merging_is_the_same_as_counting_together() -> None:
    times = np.random.default_rng(1).integers(0, 10**9, 3000)
    merged = Histogram.merged([Histogram.of_ns(part) for part in (times[:10], times[10:], [])])
    together = Histogram.of_ns(times)
    assert merged.counts == together.counts
    assert list(merged.counts) == sorted(merged.counts)
    assert (merged.min_us, merged.max_us) == (together.min_us, together.max_us)
    assert merged.sum_us == pytest.approx(together.sum_us)


def test_of_nothing_there_are_no_quantiles() -> None:
    for nothing in (Histogram.of_ns([]), Histogram.merged([])):
        assert nothing.count == 0
        assert math.isnan(nothing.quantile(0.5))
        assert math.isnan(nothing.mean_us)


def test_a_negative_time_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at least 0, got -1"):
        Histogram.of_ns([3, -1])


def test_the_cumulative_share_grows_to_one() -> None:
    us, share = Histogram.of_ns([1000, 2000, 3000, 4000]).cumulative()
    assert share.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert us[-1] == 4.0
    assert np.all(np.diff(us) > 0)
