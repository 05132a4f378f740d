"""When a measurement has settled, on a clock that stands still."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pyruntime.bench.find_rate import Slo, find_rate
from pyruntime.bench.how import How
from pyruntime.bench.sending import poisson_times
from pyruntime.bench.steady import FEWEST, half_width, repeat_until_steady, warm_up
from pyruntime.errors import InvalidInput


class Clock:
    """Advances by a second whenever something is measured."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def measuring(self, values):
        """Of one value after the other."""
        values = iter(values)

        def measure():
            self.now += 1.0
            return next(values)

        return measure


def test_a_warm_up_ends_when_the_figure_no_longer_changes() -> None:
    clock = Clock()
    warm = warm_up(clock.measuring([100, 60, 40, 30, 29, 30, 30]), limit_s=100, clock=clock)
    assert warm.is_settled
    assert warm.values == (100, 60, 40, 30, 29, 30, 30)
    assert warm.seconds == 7


def test_a_warm_up_that_does_not_settle_ends_with_its_time() -> None:
    clock = Clock()
    warm = warm_up(clock.measuring(2.0**i for i in itertools.count()), limit_s=7, clock=clock)
    assert not warm.is_settled
    assert warm.seconds == 7


def test_slices_without_a_figure_do_not_count() -> None:
    clock = Clock()
    warm = warm_up(clock.measuring(itertools.repeat(None)), limit_s=3, clock=clock)
    assert warm.values == ()
    assert not warm.is_settled


def test_it_is_repeated_until_the_interval_is_narrow() -> None:
    clock = Clock()
    rng = np.random.default_rng(0)
    values = (100 + rng.normal(0, 5) for _ in itertools.count())
    done = repeat_until_steady(
        clock.measuring(values), lambda value: value, within=0.01, limit_s=1000, clock=clock
    )
    assert done.is_steady
    assert FEWEST <= len(done.items) < 1000
    assert done.width == half_width(done.items) <= 0.01


def test_equal_values_are_repeated_as_often_as_an_interval_needs() -> None:
    clock = Clock()
    done = repeat_until_steady(
        clock.measuring(itertools.repeat(3.0)), float, within=0.03, limit_s=1000, clock=clock
    )
    assert (len(done.items), done.is_steady, done.width) == (FEWEST, True, 0)


def test_when_time_runs_out_it_says_how_far_it_got() -> None:
    clock = Clock()
    done = repeat_until_steady(
        clock.measuring(itertools.cycle([1.0, 2.0])), float, within=0.01, limit_s=20, clock=clock
    )
    assert not done.is_steady
    assert len(done.items) == 20
    assert 0.1 < done.width < 1


def test_nothing_more_to_measure_ends_it() -> None:
    clock = Clock()
    done = repeat_until_steady(
        clock.measuring([1.0, 1.0, None]), float, within=0.01, limit_s=20, clock=clock
    )
    assert done.items == (1.0, 1.0)
    assert not done.is_steady


def test_repetitions_without_the_figure_say_nothing_about_it() -> None:
    clock = Clock()
    done = repeat_until_steady(
        clock.measuring(range(100)), lambda _: None, within=0.5, limit_s=9, clock=clock
    )
    assert done.width == float("inf")
    assert not done.is_steady


# Rates


@pytest.mark.parametrize("truth", [3.0, 140.0, 1000.0, 72_000.0])
@pytest.mark.parametrize("guess", [10.0, 1000.0, 30_000.0])
def test_the_highest_rate_is_found_to_three_percent(truth: float, guess: float) -> None:
    tried = []

    def keeps(rate: float) -> bool:
        tried.append(rate)
        return rate <= truth

    found = find_rate(keeps, guess=guess, most_tries=40)
    assert found is not None
    assert truth / 1.03 <= found <= truth
    assert len(tried) <= 40


def test_no_rate_keeps_what_cannot_be_kept() -> None:
    assert find_rate(lambda _: False, guess=100) is None


@pytest.mark.parametrize(
    ("text", "figure", "limit_us"),
    [("p99=10ms", "p99_us", 1e4), ("p999=1.5s", "p999_us", 1.5e6), ("mean=.5us", "mean_us", 0.5)],
)
def test_an_slo_is_a_figure_and_a_time(text: str, figure: str, limit_us: float) -> None:
    slo = Slo.parse(text)
    assert (slo.figure, slo.limit_us, slo.text) == (figure, limit_us, text)


@pytest.mark.parametrize("text", ["", "p99", "p99=10", "p98=1ms", "p99=-1ms", "p99=0ms"])
def test_an_slo_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="slo: expected FIGURE=TIME such as p99=10ms"):
        Slo.parse(text)


def test_arrivals_are_a_poisson_process() -> None:
    times = poisson_times(1000.0, 20.0, seed=3)
    gaps = np.diff(times)
    assert len(times) == pytest.approx(20_000, rel=0.03)
    assert np.all(gaps >= 0)
    # Of an exponential distribution the deviation is the mean.
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)
    assert np.array_equal(times, poisson_times(1000.0, 20.0, seed=3))
    assert times[-1] < 20e9


def test_a_repetition_is_a_share_of_the_time_unless_it_is_given() -> None:
    assert How(seconds=30).slice_s == pytest.approx(1.0)
    assert How(seconds=1000).slice_s == 2.0
    assert How(seconds=0.5).slice_s == 0.1
    assert How(seconds=30, repetition_s=0.25).slice_s == 0.25
