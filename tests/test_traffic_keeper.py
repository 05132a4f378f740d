"""What is left of experiments and bandits after a restart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from models_for_tests import echo, rows

from pyruntime import Arm, Bandit, Experiment, InvalidInput, Runtime, StateStore
from pyruntime.serving_state import TRAFFIC_FILE
from pyruntime.traffic_state import ArmCounts, TrafficState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BANDIT = Bandit("greeting", {"short": 1, "long": 2}, "epsilon_greedy", epsilon=0.0)


@pytest.fixture
def store(tmp_path: Path) -> StateStore:
    return StateStore(tmp_path, makes_folders=True)


@contextmanager
def serving(store: StateStore, problems: int = 0) -> Iterator[Runtime]:
    with Runtime() as runtime:
        assert len(runtime.restore_routing(store)) == problems
        for version in (1, 2):
            runtime.load("m", version=version, options=echo())
        yield runtime


def arms(runtime: Runtime) -> dict[str, Any]:
    return {arm.name: arm for arm in runtime.route_stats("m").arms}


def test_a_bandit_goes_on_with_what_it_has_learned(store: StateStore) -> None:
    with serving(store) as runtime:
        runtime.set_route("m", BANDIT)
        model = runtime.model("m")
        for i in range(20):
            _, assignment = model.infer_routed(rows(1), request_id=str(i))
            runtime.feedback("m", str(i), 1.0 if assignment.arm == "long" else 0.0)
        before = arms(runtime)
        assert before["long"].rewards > before["short"].rewards >= 1
    with serving(store) as runtime:
        assert runtime.route_stats("m").experiment == "greeting"
        after = arms(runtime)
        for name in ("short", "long"):
            for field in ("assigned", "completed", "rewards", "reward_sum"):
                assert getattr(after[name], field) == getattr(before[name], field)
        # With epsilon 0 it would otherwise try both again.
        for _ in range(5):
            assert runtime.model("m").infer_routed(rows(1))[1].arm == "long"
    with serving(store) as runtime:
        assert arms(runtime)["long"].assigned == before["long"].assigned + 5


def test_an_experiment_begins_anew_under_another_name_or_with_other_arms(store: StateStore) -> None:
    def experiment(name: str, **percents: float) -> Experiment:
        return Experiment(name, {arm: Arm(1, percent) for arm, percent in percents.items()})

    with serving(store) as runtime:
        runtime.set_route("m", experiment("first", a=50, b=50))
        for _ in range(10):
            runtime.model("m").infer(rows(1))
    for route, expected in (
        (experiment("second", a=50, b=50), 0),
        (experiment("second", a=50, c=50), 0),
        (experiment("second", a=10, c=90), 1),
    ):
        with serving(store) as runtime:
            runtime.set_route("m", route)
            assert sum(arm.assigned for arm in arms(runtime).values()) == expected
            runtime.model("m").infer(rows(1))


def test_a_damaged_file_is_reported_and_counting_begins_anew(
    store: StateStore, tmp_path: Path
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / TRAFFIC_FILE).write_text("{}")
    with serving(store, problems=1) as runtime:
        runtime.set_route("m", BANDIT)
        runtime.model("m").infer(rows(1))
    state = store.read_traffic("m")
    assert state is not None
    assert sum(counts.completed for counts in state.arms.values()) == 1


class SlowStore(StateStore):
    """Writes when it is let."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, makes_folders=True)
        self.is_writing = threading.Event()
        self.may_write = threading.Event()

    def write_traffic(self, model: str, state: TrafficState) -> None:
        self.is_writing.set()
        assert self.may_write.wait(60)
        super().write_traffic(model, state)


def test_a_slow_disk_holds_up_nobody_who_sets_a_route(tmp_path: Path) -> None:
    store = SlowStore(tmp_path)
    with serving(store) as runtime:
        runtime.set_route("m", BANDIT)
        runtime.model("m").infer(rows(1))
        save = threading.Thread(target=runtime._traffic.save)
        save.start()
        assert store.is_writing.wait(60)
        other = Bandit("other", {"short": 1, "long": 2})
        change = threading.Thread(target=runtime.set_route, args=("m", other), daemon=True)
        change.start()
        change.join(60)
        is_held_up = change.is_alive()
        store.may_write.set()
        save.join()
        assert not is_held_up
        assert runtime.route_stats("m").experiment == "other"
    state = store.read_traffic("m")
    assert state is not None
    assert state.experiment == "other"


ZEROS = dict.fromkeys(ArmCounts.__dataclass_fields__, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "expected a table with format 1"),
        ({"experiment": 1}, "expected an experiment's name"),
        ({"arms": {"a": {"completed": 1}}}, "arms: a: expected cancelled, completed, failed"),
        ({"arms": {"a": {**ZEROS, "failed": -1}}}, "failed: expected a count, got -1"),
        ({"arms": {"a": {**ZEROS, "reward_sum": 1}}}, "reward_sum: expected at most one for each"),
    ],
)
def test_what_is_read_is_checked(changes: dict[str, Any], message: str) -> None:
    state = TrafficState("e", {"a": ArmCounts(1, 2, 3, 4, 5, 2.5)})
    mapping = state.to_mapping()
    assert TrafficState.from_mapping(mapping) == state
    with pytest.raises(InvalidInput, match=message):
        TrafficState.from_mapping({**mapping, **changes})


_COUNTS = """
import sys, time
from pathlib import Path
from models_for_tests import echo, rows
from pyruntime import Bandit, Runtime, StateStore

runtime = Runtime()
runtime._traffic._save_every_s = 0.02
runtime.restore_routing(StateStore(Path(sys.argv[1]), makes_folders=True))
for version in (1, 2):
    runtime.load("m", version=version, options=echo())
runtime.set_route("m", Bandit("greeting", {"short": 1, "long": 2}))
while True:
    runtime.model("m").infer(rows(1))
"""


def test_a_killed_process_forgets_no_more_than_the_last_moments(
    store: StateStore, tmp_path: Path
) -> None:
    path = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", _COUNTS, str(tmp_path)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}) as process:
        try:
            deadline = time.monotonic() + 60
            written = 0
            while written < 3:  # different ones, each whole
                assert time.monotonic() < deadline
                state = store.read_traffic("m")
                seen = 0 if state is None else sum(one.completed for one in state.arms.values())
                written += seen > 0
                time.sleep(0.05)
        finally:
            process.send_signal(signal.SIGKILL)
    state = store.read_traffic("m")
    assert state is not None
    kept = sum(counts.completed for counts in state.arms.values())
    assert kept > 0
    with serving(store) as runtime:
        assert sum(arm.completed for arm in arms(runtime).values()) == kept
