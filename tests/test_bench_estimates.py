"""What a comparison claims, and how often that is wrong."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from results_for_tests import noisy

from pyruntime.bench import student_t
from pyruntime.bench.estimates import (
    RUN_TO_RUN,
    Run,
    combine,
    false_discovery_level,
    interval,
    tail,
)
from pyruntime.bench.judging import judge
from pyruntime.bench.matching import Place
from pyruntime.bench.quantities import text
from pyruntime.bench.sources import Entry

# How often it is wrong


def made_up(rng: np.random.Generator, runs: int, factor: float, sds: tuple[float, float]) -> Any:
    """Runs of four configurations. sds: from run to run, and of repetitions within one."""
    return [
        [
            [
                Entry({}, {"p50_us": noisy(rng, factor * 100 * math.exp(shift), sd=sds[1])})
                for shift in rng.normal(0, sds[0], runs)
            ]
            for _ in range(2)
        ]
        for _ in range(4)
    ]


def share_claimed(runs: int, factor: float, sds: tuple[float, float], trials: int = 400) -> float:
    """How many of the comparisons of two sides claim any difference between them."""
    rng = np.random.default_rng(5)
    claims = 0
    for _ in range(trials):
        before, after = (made_up(rng, runs, each, sds) for each in (1.0, factor))
        places = [
            Place({"number": i}, one[0], {"after": other[0]})
            for i, (one, other) in enumerate(zip(before, after, strict=True))
        ]
        claims += any(
            row.verdict != "no difference" for row in judge(places, ["p50_us"], RUN_TO_RUN)
        )
    return claims / trials


@pytest.mark.parametrize(
    ("runs", "sds"),
    [
        (1, (0.006, 0.003)),
        (1, (0.0, 0.01)),
        (1, (0.05, 0.05)),  # it drifts while it is measured
        (3, (0.03, 0.01)),
        (5, (0.1, 0.01)),  # far beyond what is assumed of single runs
    ],
)
def test_two_runs_of_the_same_thing_differ_in_no_more_than_one_of_twenty(
    runs: int, sds: tuple[float, float]
) -> None:
    assert share_claimed(runs, 1.0, sds) <= 0.05


@pytest.mark.parametrize(("runs", "sds"), [(1, (0.005, 0.003)), (5, (0.01, 0.01))])
def test_a_slowdown_of_5_percent_is_found(runs: int, sds: tuple[float, float]) -> None:
    assert share_claimed(runs, 1.05, sds) >= 0.95


def test_a_percentile_bootstrap_of_five_repetitions_would_claim_too_much() -> None:
    # Why it is not used: it knows neither the small number nor what changes from run to run.
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(300):
        one, other = (
            np.log(noisy(rng, math.exp(rng.normal(0, 0.01)), count=5, sd=0.003)) for _ in "ab"
        )
        drawn = [np.median(s[rng.integers(0, 5, (500, 5))], axis=1) for s in (one, other)]
        low, high = np.quantile(drawn[1] - drawn[0], (0.025, 0.975))
        wrong += not low <= 0 <= high
    assert wrong / 300 > 0.5


def test_intervals_of_several_runs_hold_what_they_should() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(1000):
        runs = [Run.of(rng.normal(rng.normal(3, 0.1), 0.05, 10)) for _ in range(4)]
        low, high = interval(combine(runs, 0.01), 0.05)
        held += low <= 3 <= high
    assert 0.93 <= held / 1000 <= 0.97


def test_a_disturbed_repetition_changes_little() -> None:
    calm = Run.of([1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0, 1.01, 0.99, 1.0])
    disturbed = Run.of([1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0, 1.01, 0.99, 7.0])
    assert disturbed.mean == pytest.approx(calm.mean, abs=0.01)
    assert disturbed.variance < 4 * calm.variance


def test_what_is_claimed_agrees_with_its_interval() -> None:
    rng = np.random.default_rng(3)
    places = [
        Place(
            {"number": i},
            [Entry({}, {"p50_us": noisy(rng, 100.0)})],
            {"after": [Entry({}, {"p50_us": noisy(rng, 100.0 + i)})]},
        )
        for i in range(12)
    ]
    rows = judge(places, ["p50_us"], RUN_TO_RUN)
    assert {"no difference", "worse"} == {row.verdict for row in rows}
    for row in rows:
        assert row.ci is not None
        assert (row.ci[0] <= 1 <= row.ci[1]) == (row.verdict == "no difference")


# Its arithmetic


@pytest.mark.parametrize(
    ("tail_", "df", "expected"),
    [  # from tables
        (0.025, 1, 12.7062),
        (0.025, 2, 4.30265),
        (0.025, 4, 2.77645),
        (0.005, 10, 3.16927),
        (0.05, 30, 1.69726),
        (0.025, math.inf, 1.95996),
    ],
)
def test_students_distribution_is_that_of_the_tables(
    tail_: float, df: float, expected: float
) -> None:
    assert student_t.quantile(tail_, df) == pytest.approx(expected, rel=1e-5)
    assert student_t.upper_tail(expected, df) == pytest.approx(tail_, rel=1e-4)
    assert student_t.upper_tail(-expected, df) == pytest.approx(1 - tail_, rel=1e-4)


def test_the_level_is_that_of_benjamini_and_hochberg() -> None:
    assert false_discovery_level([0.001, 0.5, 0.024, 0.9], 0.05) == pytest.approx(0.025)
    assert false_discovery_level([0.5, 0.9], 0.05) == pytest.approx(0.025)
    assert false_discovery_level([], 0.05) == pytest.approx(0.05)


def test_two_equal_figures_without_spread_do_not_differ() -> None:
    same = combine([Run.of([5.0] * 4)], 0.0)
    assert tail(same.minus(same)) == 0.5
    assert interval(same, 0.05) == (5.0, 5.0)


@pytest.mark.parametrize(
    ("figure", "value", "expected"),
    [
        ("p99_us", 0.25, "0.25 us"),
        ("p99_us", 1234.0, "1.23 ms"),
        ("p99_us", 2.5e6, "2.50 s"),
        ("requests_per_s", 12345.6, "12,346/s"),
        ("errors_share", 0.0125, "1.25 %"),
        ("peak_bytes", 3 * 2**20, "3.00 MiB"),
        ("energy_j_per_request", 0.0021, "2.10 mJ"),
    ],
)
def test_figures_are_read_with_their_unit(figure: str, value: float, expected: str) -> None:
    assert text(figure, value) == expected
