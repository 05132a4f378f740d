"""Rollouts of a Runtime: what answers at each step, and what is left of them after a restart."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from models_for_tests import echo, rows

from pyruntime import (
    Gates,
    InvalidInput,
    Label,
    Latest,
    ModelNotFound,
    PyRuntimeError,
    RolloutPlan,
    Route,
    Runtime,
    Split,
    StateStore,
    Unavailable,
    Version,
)
from pyruntime.serving_state import STATE_FILE, ServingState

if TYPE_CHECKING:
    from collections.abc import Iterator

AT_ONCE = RolloutPlan(canary=())
QUICK = RolloutPlan(
    canary=(10.0, 50.0), every_s=0, gates=Gates(max_error=0.0, max_diff=0.0, min_requests=20)
)


@pytest.fixture
def store(tmp_path: Path) -> StateStore:
    return StateStore(tmp_path, makes_folders=True)


@contextmanager
def serving(
    store: StateStore | None = None, *, fails: int | None = None, versions: tuple[int, ...] = (1, 2)
) -> Iterator[Runtime]:
    """Versions of "m", label `stable` at 1; fails: the version that fails when x is 7."""
    with Runtime() as runtime:
        runtime._rollouts._look_every_s = 0.005
        if store is not None:
            assert runtime.restore_routing(store) == []
        runtime.declare_routing("m", labels={"stable": 1}, route=Route(Label("stable")))
        for version in versions:
            options = echo(fail_value=7) if version == fails else echo()
            runtime.load("m", version=version, options=options)
        yield runtime


@contextmanager
def traffic(runtime: Runtime, value: float = 1) -> Iterator[Counter[int]]:
    """Requests to "m" all the while; by the version that answered, 0: failed."""
    seen: Counter[int] = Counter()
    over = threading.Event()

    def ask() -> None:
        model = runtime.model("m")
        while not over.is_set():
            try:
                seen[model.infer_routed(rows(value))[1].version] += 1
            except PyRuntimeError:
                seen[0] += 1

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join()


def wait_for_end(runtime: Runtime, timeout_s: float = 60) -> str:
    """How the rollout ended."""
    deadline = time.monotonic() + timeout_s
    while True:
        status = runtime.rollout("m")
        assert status is not None
        if not status.rollout.is_running:
            return status.rollout.status
        assert time.monotonic() < deadline, status.waits_for
        time.sleep(0.005)


# What answers


def test_a_good_version_is_promoted_and_its_label_moves() -> None:
    with serving() as runtime, traffic(runtime) as seen:
        rollout = runtime.promote("m", 2, QUICK)
        assert (rollout.stable, rollout.label, rollout.percent) == (1, "stable", 10)
        assert wait_for_end(runtime) == "promoted"
        assert runtime.labels("m") == {"stable": 2}
        assert runtime.route("m") == Route(Label("stable"))
    assert set(seen) == {1, 2}


def test_a_version_that_fails_is_rolled_back_and_says_why() -> None:
    with serving(fails=2) as runtime, traffic(runtime, value=7) as seen:
        runtime.promote("m", 2, QUICK)
        assert wait_for_end(runtime) == "rolled_back"
        status = runtime.rollout("m")
        assert status is not None
        assert "fail" in status.rollout.reason
        assert runtime.labels("m") == {"stable": 1}
        before = seen[0]
        time.sleep(0.05)
        assert seen[0] <= before + 2  # those that were under way
        assert runtime.route("m") == Route(Label("stable"))


def test_an_answer_that_differs_is_found_by_its_copies_alone() -> None:
    with serving(fails=2) as runtime:
        gates = Gates(max_diff=0.0, min_requests=10**9)
        plan = RolloutPlan(canary=(0.1,), every_s=3600, gates=gates, copied=100)
        runtime.promote("m", 2, plan)
        with traffic(runtime, value=7):
            assert wait_for_end(runtime) == "rolled_back"
        status = runtime.rollout("m")
        assert status is not None
        assert "differ from the stable version's" in status.rollout.reason


def test_rolling_back_is_one_step_before_and_after_the_promotion() -> None:
    with serving() as runtime:
        model = runtime.model("m")
        runtime.promote("m", 2, RolloutPlan(canary=(50.0,)))
        assert isinstance(runtime.route("m").policy, Split)
        assert runtime.rollback("m").status == "rolled_back"
        assert model.version == 1
        assert runtime.promote("m", 2, AT_ONCE).status == "promoted"
        assert model.version == 2
        assert runtime.rollback("m").reason == "asked for"
        assert model.version == 1
        with pytest.raises(InvalidInput, match="expected a rollout to roll back, found none"):
            runtime.rollback("m")


def test_without_a_label_the_route_moves_and_comes_back() -> None:
    with serving(versions=(1, 2, 3)) as runtime:
        runtime.set_route("m", Version(1))
        runtime.promote("m", 2, AT_ONCE)
        assert runtime.route("m") == Route(Version(2))
        runtime.rollback("m")
        assert runtime.route("m") == Route(Version(1))
        runtime.set_route("m", Latest())
        runtime.promote("m", 2, AT_ONCE)
        assert runtime.route("m") == Route(Version(2))
        runtime.rollback("m")
        assert runtime.route("m") == Route(Latest())


def test_while_it_runs_nobody_else_moves_what_it_moves() -> None:
    with serving(versions=(1, 2, 3)) as runtime:
        runtime.promote("m", 2, RolloutPlan(canary=(50.0,)))
        for call in (
            lambda: runtime.promote("m", 3, AT_ONCE),
            lambda: runtime.set_route("m", Latest()),
            lambda: runtime.set_label("m", "stable", 3),
        ):
            with pytest.raises(InvalidInput, match="version 2 is being rolled out; roll it back"):
                call()
        runtime.set_label("m", "other", 3)
        assert runtime.labels("m") == {"stable": 1, "other": 3}


@pytest.mark.parametrize(
    ("route", "version", "error", "message"),
    [
        (Label("stable"), 1, InvalidInput, "version 1 answers already"),
        (Latest(), 2, InvalidInput, "version 2 answers already"),
        (Label("stable"), 9, ModelNotFound, "has no version 9; loaded: 1, 2"),
        (Split({1: 50, 2: 50}), 2, InvalidInput, "to one version, got a policy 'split'"),
    ],
)
def test_what_cannot_be_promoted_says_why(
    route: Any, version: int, error: type[PyRuntimeError], message: str
) -> None:
    with serving() as runtime:
        runtime.set_route("m", route)
        with pytest.raises(error, match=message):
            runtime.promote("m", version, AT_ONCE)
        assert runtime.rollout("m") is None
        assert runtime.route("m") == Route(route)


def test_a_promotion_is_not_undone_over_what_was_set_since() -> None:
    with serving(versions=(1, 2, 3)) as runtime:
        runtime.promote("m", 2, AT_ONCE)
        runtime.set_label("m", "stable", 3)
        with pytest.raises(InvalidInput, match="were set since version 2 was promoted"):
            runtime.rollback("m")
        assert runtime.labels("m") == {"stable": 3}


def test_a_promotion_is_not_undone_to_what_is_gone() -> None:
    with serving() as runtime:
        runtime.promote("m", 2, AT_ONCE)
        runtime.unload("m", 1)
        with pytest.raises(ModelNotFound, match="has no version 1; loaded: 2"):
            runtime.rollback("m")


def test_versions_that_are_led_to_are_named() -> None:
    with serving(versions=(1, 2, 3)) as runtime:
        assert runtime.versions_in_use("m") == {1}
        runtime.promote("m", 2, RolloutPlan(canary=(50.0,)))
        assert runtime.versions_in_use("m") == {1, 2}
        runtime.rollback("m")
        runtime.promote("m", 3, AT_ONCE)
        assert runtime.versions_in_use("m") == {1, 3}  # and may be led back to 1
        assert runtime.versions_in_use("other") == frozenset()


# What is kept


def test_labels_routes_and_rollouts_survive_a_restart(store: StateStore) -> None:
    plan = RolloutPlan(canary=(25.0, 50.0), every_s=3600)
    with serving(store) as runtime:
        runtime.set_labels("m", {"stable": 2, "old": 1})
        runtime.set_route("m", Version(1))
        runtime.promote("m", 2, plan)
    with serving(store) as runtime:
        assert runtime.labels("m") == {"stable": 2, "old": 1}
        status = runtime.rollout("m")
        assert status is not None
        assert (status.rollout.plan, status.rollout.percent) == (plan, 25)
        assert runtime.route("m").policy == Split({1: 75.0, 2: 25.0}, salt="m")
        runtime.rollback("m")
    with serving(store) as runtime:
        assert runtime.route("m") == Route(Version(1))


def test_a_rollout_goes_on_after_a_restart(store: StateStore) -> None:
    with serving(store) as runtime:
        runtime.promote("m", 2, QUICK)
    with serving(store) as runtime, traffic(runtime):
        assert wait_for_end(runtime) == "promoted"
        assert runtime.labels("m") == {"stable": 2}


def test_the_stable_version_answers_until_the_other_is_loaded(store: StateStore) -> None:
    with serving(store) as runtime:
        runtime.promote("m", 2, RolloutPlan(canary=(99.9,), every_s=0))
    with serving(store, versions=(1,)) as runtime:
        for _ in range(100):
            assert runtime.model("m").infer_routed(rows(1))[1].version == 1
        status = runtime.rollout("m")
        assert status is not None
        assert status.rollout.is_running


def test_a_damaged_file_is_reported_and_what_is_declared_holds(
    store: StateStore, tmp_path: Path
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / STATE_FILE).write_text('{"format": 1, "labels": {"stable": 0}}')
    (tmp_path / "n").mkdir()
    (tmp_path / "n" / STATE_FILE).write_text("{")
    with Runtime() as runtime:
        first, second = runtime.restore_routing(store)
        assert first.startswith(f"{tmp_path}/m/.serving.json: labels: stable: expected a version")
        assert second.startswith(f"{tmp_path}/n/.serving.json: Expecting property name")
        runtime.declare_routing("m", labels={"stable": 1}, route=Route(Label("stable")))
        runtime.load("m", version=1, options=echo())
        assert runtime.model("m").version == 1
        runtime.set_label("m", "stable", 1)  # replaces the file
    assert store.read("m") == ServingState({"stable": 1})


def test_what_cannot_be_kept_is_not_set(tmp_path: Path) -> None:
    with serving(StateStore(tmp_path)) as runtime:  # without a folder for the model
        with pytest.raises(Unavailable, match=r"cannot be kept in .*: No such file or directory"):
            runtime.set_label("m", "stable", 2)
        assert runtime.labels("m") == {"stable": 1}
        assert runtime.model("m").version == 1


# Ended at any moment

_ENDS_ITSELF = """
import os, sys
from pathlib import Path
from pyruntime import StateStore
from pyruntime.serving_state import ServingState

calls, last = 0, int(sys.argv[2])

def counted(call):
    def instead(*args, **keywords):
        global calls
        calls += 1
        if calls == last:
            os._exit(9)
        result = call(*args, **keywords)
        return result
    return instead

store = StateStore(Path(sys.argv[1]))
for name in ("open", "fsync", "close", "replace", "fdopen"):
    setattr(os, name, counted(getattr(os, name)))
Path.replace = counted(Path.replace)
store.write("m", ServingState({"stable": 2, "old": 1}))
os._exit(0)
"""


def test_a_write_that_ends_anywhere_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    store = StateStore(tmp_path)
    old, new = ServingState({"stable": 1}), ServingState({"stable": 2, "old": 1})
    found = []
    for last in range(1, 20):
        store.write("m", old)
        command = [sys.executable, "-P", "-c", _ENDS_ITSELF, str(tmp_path), str(last)]
        status = subprocess.run(command, check=False).returncode
        state = store.read("m")
        assert state in (old, new)
        found.append(state == new)
        if status == 0:
            break
    assert status == 0
    assert found == sorted(found)
    assert {*found} == {False, True}


_ROLLS_OUT = """
import sys, threading
from pathlib import Path
from pyruntime import *
sys.path.insert(0, sys.argv[2])
from models_for_tests import echo, rows

with Runtime() as runtime:
    runtime._rollouts._look_every_s = 0.001
    assert runtime.restore_routing(StateStore(Path(sys.argv[1]), makes_folders=True)) == []
    for version in (1, 2):
        runtime.load("m", version=version, options=echo())
    if runtime.rollout("m") is None:
        runtime.set_label("m", "stable", 1)
        runtime.set_route("m", Label("stable"))
    model = runtime.model("m")
    ask = lambda: [model.infer(rows(1)) for _ in iter(int, 1)]
    threading.Thread(target=ask, daemon=True).start()
    plan = RolloutPlan(tuple(range(2, 100, 2)), 0, Gates(min_requests=1))
    print("ready", flush=True)
    while True:
        for version in (2, 1):
            status = runtime.rollout("m")
            if status is None or not status.rollout.is_running:
                if runtime.labels("m")["stable"] != version:
                    runtime.promote("m", version, plan)
            while runtime.rollout("m").rollout.is_running:
                pass
"""


def test_a_process_killed_during_rollouts_resumes_or_has_rolled_back(
    store: StateStore, tmp_path: Path
) -> None:
    steps = set()
    command = [sys.executable, "-P", "-c", _ROLLS_OUT, str(tmp_path)]
    command.append(str(Path(__file__).parent))
    for round_ in range(8):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.05 + 0.0137 * round_)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert_whole(store, steps)
    assert len(steps) > 2


def assert_whole(store: StateStore, steps: set[Any]) -> None:
    """Labels, route and rollout that were kept are of one moment, and are served so."""
    state = store.read("m")
    assert state is not None
    assert state.route == Route(Label("stable"))
    rollout = state.rollout
    assert rollout is not None
    stable = state.labels["stable"]
    assert stable == (rollout.version if rollout.status == "promoted" else rollout.stable)
    steps.add((rollout.version, rollout.step, rollout.status))
    with Runtime() as runtime:
        assert runtime.restore_routing(store) == []
        for version in (1, 2):
            runtime.load("m", version=version, options=echo())
        seen = {runtime.model("m").infer_routed(rows(1))[1].version for _ in range(50)}
        assert seen <= ({1, 2} if rollout.is_running else {stable})
        json.dumps(state.to_mapping())
