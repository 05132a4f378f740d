"""Which changes are noticed, and when they count as complete."""

from __future__ import annotations

import queue
import time
from typing import TYPE_CHECKING

import pytest
from repositories import IDENTITY, add

from pyruntime.repository import ModelRepository, RepositoryOptions
from pyruntime.repository.watcher import (
    LOST_EVENT_S,
    POLL_EVERY_S,
    QUIET_S,
    Changes,
    Watcher,
    why_no_events,
)

if TYPE_CHECKING:
    from pathlib import Path

    from pyruntime.repository import VersionStatus


def test_a_change_counts_once_it_has_come_to_rest(tmp_path: Path) -> None:
    file = add(tmp_path, "m")
    changes = Changes(tmp_path, quiet_s=1.0)
    assert changes.look(0) == set()
    file.write_bytes(b"half")
    assert changes.look(10) == set()
    assert changes.look(10.9) == set()
    file.write_bytes(b"half of it")
    assert changes.look(11.1) == set()
    assert changes.are_pending
    assert changes.look(12.0) == set()
    assert changes.look(12.2) == {"m"}
    assert not changes.are_pending
    assert changes.look(99) == set()


def test_what_comes_and_goes_is_noticed(tmp_path: Path) -> None:
    file = add(tmp_path, "m")
    changes = Changes(tmp_path, quiet_s=0.0)
    add(tmp_path, "n")
    (tmp_path / "m" / "model.toml").write_text("")
    changes.look(0)
    assert changes.look(1) == {"m", "n"}
    file.unlink()
    changes.look(2)
    assert changes.look(3) == {"m"}
    (tmp_path / "m" / "1").rmdir()
    (tmp_path / "m" / "model.toml").unlink()
    (tmp_path / "m").rmdir()
    changes.look(4)
    assert changes.look(5) == {"m"}


def test_hidden_files_of_a_model_are_not_changes(tmp_path: Path) -> None:
    add(tmp_path, "m")
    changes = Changes(tmp_path, quiet_s=0.0)
    (tmp_path / "m" / ".serving.json").write_text("{}")
    changes.look(0)
    assert not changes.are_pending


@pytest.mark.parametrize("poll_every_s", [None, 0.1])
def test_the_watcher_calls_back(tmp_path: Path, poll_every_s: float | None) -> None:
    if poll_every_s is None and (reason := why_no_events(tmp_path)):
        pytest.skip(reason)
    told: queue.SimpleQueue[set[str]] = queue.SimpleQueue()
    watcher = Watcher(tmp_path.resolve(), told.put, poll_every_s=poll_every_s)
    watcher.start()
    try:
        add(tmp_path, "m")
        assert told.get(timeout=20) == {"m"}
        add(tmp_path, "m", 2)
        assert told.get(timeout=20) == {"m"}
    finally:
        watcher.stop()


# What is left of the 2 s that are promised, for loading.
NOTICED_WITHIN_S = 1.65
# Until a file event wakes the watcher: what watchfiles collects, and a step of it.
EVENT_S = 0.3


def noticed_after_s(root: Path, phase: float, *, by_events: bool) -> float:
    """Change something at a moment between two looks, by a manual clock; when it is told of."""
    add(root, "m")
    now = 100.0
    changed_at = now + 3 + phase
    event_at = changed_at + EVENT_S if by_events else None
    noticed: list[float] = []

    def wait(seconds: float) -> None:
        nonlocal now, event_at
        before, now = now, now + seconds
        if before < changed_at <= now:
            add(root, "m", 2)
        if event_at is not None and event_at <= now:
            now, event_at = max(before, event_at), None
        assert now < 200

    def told(names: set[str]) -> None:
        noticed.append(now)
        watcher._stop.set()

    every_s = LOST_EVENT_S if by_events else POLL_EVERY_S
    watcher = Watcher(root, told, poll_every_s=every_s, clock=lambda: now, wait=wait)
    watcher._run()
    return noticed[0] - changed_at


@pytest.mark.parametrize("by_events", [True, False])
def test_a_change_is_noticed_in_time_whenever_it_comes(tmp_path: Path, by_events: bool) -> None:
    times = [
        noticed_after_s(tmp_path / str(step), step / 20, by_events=by_events) for step in range(40)
    ]
    assert min(times) > QUIET_S
    assert max(times) <= NOTICED_WITHIN_S


class Told:
    """Collects what a repository tells."""

    def __init__(self, repository: ModelRepository) -> None:
        self._told: queue.SimpleQueue[VersionStatus] = queue.SimpleQueue()
        repository.listen(self._told.put)

    def next(self) -> VersionStatus:
        return self._told.get(timeout=30)


def test_a_new_version_is_served_and_the_one_before_kept(tmp_path: Path) -> None:
    add(tmp_path, "m", 1)
    with ModelRepository(tmp_path, options=RepositoryOptions(mode="poll")) as repository:
        told = Told(repository)
        add(tmp_path, "m", 2)
        status = told.next()
        assert (status.version, status.state) == ("2", "READY")
        assert repository.runtime.model("m").version == 2
        assert repository.runtime.model("m", 1).is_ready


def test_a_half_copied_model_is_waited_for(tmp_path: Path) -> None:
    add(tmp_path, "m", 1)
    data = IDENTITY.read_bytes()
    with ModelRepository(tmp_path, options=RepositoryOptions(mode="poll")) as repository:
        told = Told(repository)
        (tmp_path / "m" / "2").mkdir()
        with (tmp_path / "m" / "2" / "model.onnx").open("wb") as file:
            for at in range(0, len(data), len(data) // 8):
                file.write(data[at : at + len(data) // 8])
                file.flush()
                time.sleep(0.1)
                assert repository.runtime.model("m").version == 1
        assert told.next().state == "READY"
        assert repository.runtime.model("m").version == 2


def test_a_copy_that_stops_half_way_is_told_of_and_tried_again(tmp_path: Path) -> None:
    add(tmp_path, "m", 1)
    data = IDENTITY.read_bytes()
    with ModelRepository(tmp_path, options=RepositoryOptions(mode="poll")) as repository:
        told = Told(repository)
        (tmp_path / "m" / "2").mkdir()
        file = tmp_path / "m" / "2" / "model.onnx"
        file.write_bytes(data[: len(data) // 2])
        status = told.next()
        assert status.is_failed
        assert status.reason
        assert repository.runtime.model("m").version == 1
        file.write_bytes(data)
        status = told.next()
        assert (status.version, status.state, status.is_failed) == ("2", "READY", False)
        assert repository.runtime.model("m").version == 2


def test_what_was_unloaded_by_hand_stays_so_until_it_changes(tmp_path: Path) -> None:
    add(tmp_path, "m", 1)
    options = RepositoryOptions(mode="poll", poll_every_s=0.05)
    with ModelRepository(tmp_path, options=options) as repository:
        repository.unload("m")
        told = Told(repository)
        add(tmp_path, "other", 1)
        assert told.next().model == "other"
        assert [model.name for model in repository.runtime.models()] == ["other"]
        add(tmp_path, "m", 2)
        assert (told.next().version, repository.runtime.model("m").version) == ("2", 2)
