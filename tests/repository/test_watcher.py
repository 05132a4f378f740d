"""Which changes are noticed, and when they count as complete."""

from __future__ import annotations

import queue
import time
from typing import TYPE_CHECKING

import pytest
from repositories import IDENTITY, add

from pyruntime.repository import ModelRepository, RepositoryOptions
from pyruntime.repository.watcher import Changes, Watcher, why_no_events

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
