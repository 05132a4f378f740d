"""When loads are held back, by a manual clock and made-up latencies."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from models_for_tests import echo, rows

from pyruntime import Runtime, Unavailable
from pyruntime.load_throttle import LOOK_EVERY_S, PATIENCE_S, SETTLED_S, LoadThrottle

if TYPE_CHECKING:
    from collections.abc import Callable

QUIET_US = 100.0
STABLE = ("stable", 1)


class Scene:
    """A served model whose requests take what `latency_us` says, 1,000 a second."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.seen: dict[tuple[str, int], Counter[float]] = {STABLE: Counter()}
        self.latency_us: Callable[[], float] = lambda: QUIET_US
        self.random = np.random.default_rng(1)
        self.slept: list[str] = []
        self.throttle = LoadThrottle(self.read, clock=lambda: self.now, sleep=self.sleep)

    def read(self) -> dict[tuple[str, int], dict[float, int]]:
        return {version: dict(buckets) for version, buckets in self.seen.items()}

    def passes(self, seconds: float) -> None:
        self.now += seconds
        for _ in range(round(1000 * seconds)):
            # A few are slow in any case.
            us = self.latency_us() * (1.2 if self.random.random() < 0.02 else 1.0)
            self.seen[STABLE][us] += 1

    def sleep(self, seconds: float) -> None:
        self.slept.append(self.throttle.why_held("new", 1))
        self.passes(seconds)

    def held_s(self) -> float:
        return len(self.slept) * LOOK_EVERY_S


def test_a_load_that_nobody_feels_is_not_held_back() -> None:
    scene = Scene()
    scene.passes(5)
    with scene.throttle.begin("new", 1) as load:
        for _ in range(50):
            scene.passes(0.2)
            load.step()
    assert not scene.slept


def test_a_load_is_held_back_while_it_is_felt_and_goes_on_when_it_is_not() -> None:
    scene = Scene()
    scene.passes(5)
    with scene.throttle.begin("new", 1) as load:
        scene.latency_us = lambda: 3 * QUIET_US
        scene.passes(0.5)
        scene.latency_us = lambda: QUIET_US if scene.slept else 3 * QUIET_US
        load.step()
        held_s = scene.held_s()
        assert LOOK_EVERY_S <= held_s <= 4 * LOOK_EVERY_S
        scene.passes(0.5)
        load.step()
        assert scene.held_s() == held_s
    assert scene.slept[0] == "model 'stable' version 1 has a p99 of 360 us, without loads 120 us"
    assert scene.throttle.why_held("new", 1) == ""


def test_the_next_load_does_not_begin_while_the_last_one_is_felt() -> None:
    scene = Scene()
    scene.passes(5)
    with scene.throttle.begin("new", 1):
        scene.latency_us = lambda: 3 * QUIET_US
        scene.passes(0.5)
    scene.latency_us = lambda: QUIET_US if len(scene.slept) > 2 else 3 * QUIET_US
    with scene.throttle.begin("new", 2):
        assert 3 <= len(scene.slept) <= 8


def test_what_is_slow_without_loads_too_is_what_is_normal() -> None:
    scene = Scene()
    scene.passes(5)
    with scene.throttle.begin("new", 1) as load:
        scene.latency_us = lambda: 3 * QUIET_US  # more traffic, say
        for _ in range(20):
            scene.passes(0.5)
            load.step()
    assert SETTLED_S <= scene.held_s() <= SETTLED_S + 2 * LOOK_EVERY_S


def test_a_load_is_not_held_back_for_ever() -> None:
    scene = Scene()
    scene.passes(5)
    with scene.throttle.begin("new", 1) as load:
        for _ in range(400):
            scene.latency_us = lambda: 3 * QUIET_US
            scene.passes(0.5)
            scene.latency_us = lambda: QUIET_US
            load.step()
    assert PATIENCE_S <= scene.held_s() + 1 <= PATIENCE_S + 2


def test_all_loads_wait_and_the_quiet_begins_with_the_last_of_them() -> None:
    scene = Scene()
    scene.passes(5)
    with scene.throttle.begin("a", 1) as one, scene.throttle.begin("b", 1) as other:
        scene.latency_us = lambda: 3 * QUIET_US
        scene.passes(0.5)
        # The other one goes on to its next step while the first waits; then it waits, too.
        waits = iter([lambda: None, other.step])

        def sleep(seconds: float) -> None:
            scene.slept.append("")
            next(waits, lambda: None)()
            scene.latency_us = lambda: QUIET_US if len(scene.slept) > 3 else 3 * QUIET_US
            scene.passes(seconds)

        scene.throttle._sleep = sleep
        one.step()
        assert len(scene.slept) > 3
        assert scene.throttle._working == 2


def test_few_requests_say_nothing() -> None:
    scene = Scene()
    scene.passes(5)
    with scene.throttle.begin("new", 1) as load:
        scene.latency_us = lambda: 50 * QUIET_US
        scene.passes(0.05)
        load.step()
    assert not scene.slept


def test_a_version_that_takes_another_ones_place_begins_anew() -> None:
    scene = Scene()
    scene.passes(5)
    with scene.throttle.begin("new", 1) as load:
        scene.seen[STABLE].clear()
        scene.latency_us = lambda: 5 * QUIET_US
        scene.passes(1)
        load.step()
        scene.passes(1)
        load.step()
    assert not scene.slept


def test_a_load_learns_that_it_is_not_wanted_any_more() -> None:
    scene = Scene()
    with scene.throttle.begin("new", 1) as load:
        scene.throttle.close()
        with pytest.raises(Unavailable, match="'new' version 1: nothing is loaded any more"):
            load.step()


def test_a_gentle_load_of_a_runtime_asks_between_its_steps(monkeypatch: Any) -> None:
    steps: list[str] = []
    with Runtime() as runtime:
        runtime.load("stable", options=echo()).infer(rows(1))
        assert runtime._latencies()[STABLE]
        begin = runtime._throttle.begin

        def note(name: str, version: int) -> Any:
            load = begin(name, version)
            monkeypatch.setattr(load, "step", lambda: steps.append(name))
            return load

        monkeypatch.setattr(runtime._throttle, "begin", note)
        model = runtime.load(
            "new", options=echo(), gently=True, warm_up=lambda model: model.warm_up(2, runs=3)
        )
        assert steps == ["new"] * 4  # before the warm-up, and before each of its runs
        model.warm_up(2, runs=3)
        assert len(steps) == 4
