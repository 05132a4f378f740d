"""When a rollout moves and when it does not: observations in, states out, by a manual clock."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest

from pyruntime import (
    ArmStats,
    Gates,
    InvalidInput,
    Label,
    LatencyStats,
    Rollout,
    RolloutPlan,
    Route,
    RouteStats,
    Shadow,
    ShadowStats,
    Split,
    Tolerance,
)
from pyruntime.binomial import tail_of_binomial
from pyruntime.rollout import PATIENCE_S, Observation, RolloutMachine

NO_TIMES = LatencyStats(0, 0, 0, 0, 0, 0, 0)


class ManualClock:
    """Stands still until advanced."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def arm(version: int, completed: int = 0, failed: int = 0, times_us: Any = ()) -> ArmStats:
    """Counts of one arm. times_us: of completed requests."""
    times = sorted(times_us)
    p99 = times[int(0.99 * len(times))] if times else 0.0
    total = LatencyStats(len(times), 0, 0, 0, 0, p99, 0)
    return ArmStats(
        str(version), version, completed + failed, completed, failed, 0, 0, 0, 0.0, total,
        tuple((us, 1) for us in times),
    )  # fmt: skip


def shadow(matched: int = 0, mismatched: int = 0, failed: int = 0) -> ShadowStats:
    return ShadowStats(
        matched + mismatched + failed, 0, 0, failed, matched, mismatched, "why", (), NO_TIMES
    )


def seen(stable: ArmStats, canary: ArmStats, copies: ShadowStats | None = None) -> Observation:
    return Observation(RouteStats((stable, canary), shadow=copies))


def good(n: int = 1000) -> Observation:
    """Nothing against the new version."""
    return seen(arm(6, n), arm(7, n), shadow(n))


def machine(gates: Gates | None = None, **plan: Any) -> tuple[RolloutMachine, ManualClock]:
    clock = ManualClock()
    rollout = Rollout(7, 6, RolloutPlan(gates=gates or Gates(), **plan), label="stable")
    return RolloutMachine(rollout, clock), clock


def step(machine: RolloutMachine, observation: Observation) -> Rollout:
    """Advance, and enter what comes of it."""
    after = machine.advance(observation)
    if after != machine.rollout:
        machine.enter(after)
    return after


# Moving


def test_it_steps_up_while_the_gates_hold_and_is_promoted_in_the_end() -> None:
    rollout, clock = machine(canary=(1.0, 10.0, 50.0), every_s=300)
    shares = []
    for _ in range(3):
        shares.append(rollout.rollout.percent)
        assert step(rollout, good()).percent == shares[-1]
        assert rollout.waits_for == "300 s to pass"
        clock.now += 300
        step(rollout, good())
    assert shares == [1, 10, 50]
    assert rollout.rollout.status == "promoted"
    assert rollout.rollout.percent == 100
    clock.now += 300
    assert step(rollout, seen(arm(6), arm(7, 0, 1000))).status == "promoted"


def test_one_without_steps_has_all_or_nothing() -> None:
    at_once = Rollout(7, 6, RolloutPlan(canary=()), status="promoted")
    assert at_once.percent == 100
    assert at_once.rolled_back("why").percent == 0


def test_time_alone_does_not_move_it() -> None:
    rollout, clock = machine(every_s=10)
    clock.now += 1e6
    assert step(rollout, seen(arm(6, 10_000), arm(7, 99))).step == 0
    assert rollout.waits_for == "requests to version 7: 99 of 100"
    assert step(rollout, seen(arm(6, 99), arm(7, 100))).step == 0
    assert rollout.waits_for == "requests to version 6: 99 of 100"
    assert step(rollout, good()).step == 1


def test_with_a_gate_of_differences_answers_must_have_been_compared() -> None:
    rollout, clock = machine(Gates(max_diff=1e-3, min_compared=20), every_s=0)
    clock.now += 1
    assert step(rollout, seen(arm(6, 500), arm(7, 500), shadow(19))).step == 0
    assert rollout.waits_for == "answers to compare: 19 of 20"
    assert step(rollout, seen(arm(6, 500), arm(7, 500), shadow(20))).step == 1


def test_a_step_counts_from_its_own_beginning() -> None:
    rollout, clock = machine(every_s=100)
    clock.now += 250
    assert step(rollout, good()).step == 1
    clock.now += 99
    assert step(rollout, good()).step == 1
    clock.now += 1
    assert step(rollout, good()).step == 2


def test_counts_of_another_step_are_not_judged() -> None:
    rollout, clock = machine(every_s=0)
    clock.now += 1
    assert step(rollout, seen(arm(5, 0, 1000), arm(6, 0, 1000))).is_running
    assert step(rollout, Observation(RouteStats())).is_running


# Gates


def test_a_version_that_fails_more_is_rolled_back_with_the_reason() -> None:
    rollout, _ = machine(Gates(max_error=0.001))
    after = step(rollout, seen(arm(6, 9990, 10), arm(7, 995, 5)))
    assert after.status == "rolled_back"
    assert after.reason == (
        "at 1 % of the requests: 5 of 1000 requests failed, the limit is 0.2 % "
        "(the stable version's 0.1 % and 0.1 %)"
    )
    assert after.percent == 0


def test_failures_that_the_stable_version_has_too_are_forgiven() -> None:
    rollout, _ = machine(Gates(max_error=0.001))
    assert step(rollout, seen(arm(6, 9500, 500), arm(7, 950, 50))).is_running


def test_a_version_that_only_fails_is_rolled_back_before_it_has_enough_requests() -> None:
    rollout, _ = machine(Gates(max_error=0.1, min_requests=100))
    assert step(rollout, seen(arm(6, 900), arm(7, 0, 10))).is_running
    assert step(rollout, seen(arm(6, 900), arm(7, 0, 11))).status == "rolled_back"


def test_a_slower_version_is_rolled_back() -> None:
    rollout, _ = machine(Gates(max_p99=1.2))
    stable = arm(6, 10_000, times_us=range(1, 10_001))
    slower = arm(7, 1000, times_us=range(15, 15_001, 15))
    after = step(rollout, seen(stable, slower))
    assert after.status == "rolled_back"
    assert "1.50 times the stable version's 9901 us, the limit is 1.2 times" in after.reason


def test_a_version_as_fast_is_hardly_ever_called_slower() -> None:
    generator = random.Random(5)
    rolled_back = 0
    for _ in range(500):
        rollout, _ = machine(Gates(max_p99=1.0))
        stable = arm(6, 5000, times_us=[generator.expovariate(1e-3) for _ in range(5000)])
        canary = arm(7, 100, times_us=[generator.expovariate(1e-3) for _ in range(100)])
        rolled_back += not step(rollout, seen(stable, canary)).is_running
    assert rolled_back <= 5


def test_a_few_requests_say_nothing_of_a_p99() -> None:
    rollout, _ = machine(Gates(max_p99=1.2))
    few = arm(7, 99, times_us=[1e9] * 99)
    assert step(rollout, seen(arm(6, 1000, times_us=[1.0] * 1000), few)).is_running


def test_one_answer_that_differs_is_enough() -> None:
    for copies in (shadow(1000, 1), shadow(1000, 0, 1)):
        rollout, _ = machine(Gates(max_diff=1e-3))
        after = step(rollout, seen(arm(6), arm(7), copies))
        assert after.reason.endswith("1 of 1001 answers differ from the stable version's: why")


def test_without_gates_nothing_is_held_against_it() -> None:
    rollout, clock = machine(every_s=0)
    clock.now += 1
    awful = seen(
        arm(6, 1000, times_us=[1] * 1000), arm(7, 500, 500, times_us=[1e9] * 500), shadow(0, 9)
    )
    assert step(rollout, awful).step == 1


def test_the_tail_of_a_binomial_is_right() -> None:
    assert tail_of_binomial(0, 10, 0.5) == 1
    assert tail_of_binomial(10, 10, 0.5) == pytest.approx(2**-10)
    assert tail_of_binomial(6, 10, 0.5) == pytest.approx(386 / 1024)
    assert tail_of_binomial(2, 100, 0.01) == pytest.approx(0.2642, abs=1e-4)
    # On both sides of where the normal distribution takes over.
    exact, close = (tail_of_binomial(668, n, 0.01) for n in (59_999, 60_001))
    assert exact == pytest.approx(close, rel=0.2)


# Absence


def test_a_version_that_is_away_is_waited_for_and_its_step_begun_anew() -> None:
    rollout, clock = machine(every_s=10)
    clock.now += 9
    assert step(rollout, replace(good(), missing=(7,))).is_running
    assert rollout.waits_for == "version 7 to be loaded"
    clock.now += PATIENCE_S - 1
    assert step(rollout, replace(good(), missing=(7,))).is_running
    assert step(rollout, good()).step == 0
    clock.now += 10
    assert step(rollout, good()).step == 1


def test_a_version_that_stays_away_is_rolled_back() -> None:
    rollout, clock = machine()
    step(rollout, replace(good(), missing=(6, 7)))
    clock.now += PATIENCE_S
    after = step(rollout, replace(good(), missing=(6, 7)))
    assert after.reason == "version 6 and version 7 was not loaded for 60 s"


# Routes and files


def test_each_step_has_a_route() -> None:
    rollout = Rollout(7, 6, RolloutPlan(canary=(0.1, 50)))
    assert rollout.step_route("m") == Route(Split({6: 99.9, 7: 0.1}, salt="m"))
    compared = Rollout(7, 6, RolloutPlan(gates=Gates(max_diff=0.01), copied=20))
    assert compared.step_route("m").shadow == Shadow(7, 20, Tolerance(0.01, 0.01))


@pytest.mark.parametrize(
    "rollout",
    [
        Rollout(7, 6, RolloutPlan()),
        Rollout(7, 6, RolloutPlan(canary=()), "stable", status="promoted"),
        Rollout(
            7, 6, RolloutPlan((5, 25.5), 1.5, Gates(1.2, 0.001, 1e-3, 5, 6), 100.0), None,
            Route(Label("x")), "rolled_back", 1, "why",
        ),
    ],
)  # fmt: skip
def test_a_rollout_comes_back_from_its_mapping(rollout: Rollout) -> None:
    assert Rollout.from_mapping(json.loads(json.dumps(rollout.to_mapping()))) == rollout


@pytest.mark.parametrize(
    "change",
    [
        {"plan": None},
        {"status": "odd"},
        {"step": 3},
        {"step": -1},
        {"surplus": 1},
        {"route": {"policy": "odd"}},
    ],
)
def test_a_damaged_mapping_is_refused(change: dict[str, Any]) -> None:
    mapping = Rollout(7, 6, RolloutPlan()).to_mapping()
    with pytest.raises(InvalidInput):
        Rollout.from_mapping({**mapping, **change})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RolloutPlan(canary=(10, 5)), "canary: expected rising shares between 0 and 100"),
        (lambda: RolloutPlan(canary=(0, 5)), "canary: expected rising shares"),
        (lambda: RolloutPlan(canary=(100,)), "canary: expected rising shares"),
        (lambda: RolloutPlan(canary=(0.05,)), "expected percent from 0 to 100 in steps of 0.1"),
        (lambda: RolloutPlan(canary=("x",)), "expected percent"),
        (lambda: RolloutPlan(canary=3), "canary: expected shares in percent, got 3"),
        (lambda: RolloutPlan(every_s=-1), "every_s: expected a number from 0"),
        (lambda: RolloutPlan(copied=101), "percent: expected percent from 0 to 100"),
        (lambda: Gates(max_p99=0.9), "max_p99: expected a number from 1"),
        (lambda: Gates(max_error=2), "max_error: expected a number from 0 to 1"),
        (lambda: Gates(max_diff=float("nan")), "max_diff: expected a number from 0"),
        (lambda: Gates(min_requests=-1), "min_requests: expected a whole number from 0 on"),
    ],
)
def test_a_bad_plan_says_what_is_wrong(make: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make()
