"""What a repository loads, keeps and lets go of, and what it says of each version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from repositories import add

from pyruntime import InvalidInput, Label, ModelNotFound, ModelOptions, PyRuntimeError
from pyruntime.repository import ModelRepository, RepositoryOptions, VersionStatus

if TYPE_CHECKING:
    from pathlib import Path


def served(repository: ModelRepository) -> list[tuple[str, int]]:
    return [(model.name, model.version) for model in repository.runtime.models()]


def status(repository: ModelRepository, model: str, version: int | str) -> VersionStatus:
    (found,) = [
        one for one in repository.index() if (one.model, one.version) == (model, str(version))
    ]
    return found


# At the start


def test_the_latest_valid_version_is_served(tmp_path: Path) -> None:
    for version in (1, 2, 3):
        add(tmp_path, "m", version)
    add(tmp_path, "m", 4).write_bytes(b"no model at all")
    (tmp_path / "none").mkdir()
    with ModelRepository(tmp_path) as repository:
        assert served(repository) == [("m", 3)]
        assert status(repository, "m", 3).state == "READY"
        assert status(repository, "m", 2).state == "UNAVAILABLE"
        assert not status(repository, "m", 2).is_failed
        assert status(repository, "m", 4).is_failed
        assert status(repository, "m", 4).reason.startswith("model '")
        assert status(repository, "none", "").reason == "expected a version folder, found none"


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("latest = 2", [3, 10]),
        ("all = true", [1, 2, 3, 10]),
        ("specific = [1, 3]", [1, 3]),
        ("specific = [2, 77]", [2]),
    ],
)
def test_versions_are_loaded_by_policy(tmp_path: Path, policy: str, expected: list[int]) -> None:
    for version in (1, 2, 3, 10):
        add(tmp_path, "m", version)
    (tmp_path / "m" / "model.toml").write_text(f"[versions]\n{policy}\n")
    with ModelRepository(tmp_path) as repository:
        assert served(repository) == [("m", version) for version in expected]


def test_model_toml_takes_the_place_of_the_default_options(tmp_path: Path) -> None:
    add(tmp_path, "own")
    (tmp_path / "own" / "model.toml").write_text("[batching]\nmax_rows = 3\n")
    add(tmp_path, "default")
    add(tmp_path, "wrong")
    (tmp_path / "wrong" / "model.toml").write_text("batchings = 3\n")
    default = ModelOptions(intra_op_threads=2)
    with ModelRepository(tmp_path, options=RepositoryOptions(defaults=default)) as repository:
        own = repository.runtime.model("own").options
        assert (own.batching.max_rows, own.intra_op_threads) == (3, 1)
        assert repository.runtime.model("default").options == default
        reason = status(repository, "wrong", "").reason
    assert "model.toml: expected keys among" in reason
    assert "batchings" in reason


# Loading and unloading


def test_versions_are_loaded_and_unloaded_one_by_one(tmp_path: Path) -> None:
    for version in (1, 2, 3):
        add(tmp_path, "m", version)
    with ModelRepository(tmp_path) as repository:
        repository.load("m", 1)
        assert served(repository) == [("m", 1), ("m", 3)]
        repository.unload("m", 3)
        assert served(repository) == [("m", 1)]
        assert status(repository, "m", 3).reason == "unloaded on demand"
        repository.load("m", 3)
        repository.unload("m")
        assert served(repository) == []
        repository.load("m")
        assert served(repository) == [("m", 3)]


def test_in_mode_explicit_nothing_is_loaded_unasked(tmp_path: Path) -> None:
    for model in ("a", "b", "c"):
        add(tmp_path, model)
    options = RepositoryOptions(mode="explicit", load=("b",))
    with ModelRepository(tmp_path, options=options) as repository:
        assert served(repository) == [("b", 1)]
        assert [one.state for one in repository.index()] == ["UNAVAILABLE", "READY", "UNAVAILABLE"]
        add(tmp_path, "new")
        assert status(repository, "new", 1).state == "UNAVAILABLE"
        repository.load("new")
        repository.load("a")
        assert served(repository) == [("a", 1), ("b", 1), ("new", 1)]


def test_what_cannot_be_loaded_disturbs_nothing(tmp_path: Path) -> None:
    add(tmp_path, "m", 1)
    with ModelRepository(tmp_path) as repository:
        model = repository.runtime.model("m")
        add(tmp_path, "m", 2).write_bytes(b"no model at all")
        for call, error, message in (
            (lambda: repository.load("m"), PyRuntimeError, "model 'm' version 2"),
            (lambda: repository.load("m", 2), PyRuntimeError, "model 'm' version 2"),
            (lambda: repository.load("m", 7), ModelNotFound, "no version 7; found: 1, 2"),
            (lambda: repository.load("x"), ModelNotFound, "model 'x': not in the repository"),
            (lambda: repository.unload("x"), ModelNotFound, "model 'x'"),
            (lambda: repository.unload("m", 2), ModelNotFound, "version 2 is not loaded"),
        ):
            with pytest.raises(error, match=message):
                call()
        (tmp_path / "m" / "model.toml").write_text("[versions]\nlatest = 0\n")
        with pytest.raises(InvalidInput, match=r"model.toml: versions: .*at least 1, got 0"):
            repository.load("m")
        assert model.is_ready
        assert served(repository) == [("m", 1)]


def test_replaced_versions_are_kept_as_far_as_asked(tmp_path: Path) -> None:
    add(tmp_path, "m", 1)
    (tmp_path / "m" / "model.toml").write_text("[versions]\nkeep = 2\n")
    with ModelRepository(tmp_path) as repository:
        for version in (2, 3, 4):
            add(tmp_path, "m", version)
            repository.load("m")
        assert served(repository) == [("m", 2), ("m", 3), ("m", 4)]
        assert [one.is_kept for one in repository.index()] == [False, True, True, False]


def test_going_back_takes_one_call_and_loads_nothing(tmp_path: Path) -> None:
    add(tmp_path, "m", 1)
    with ModelRepository(tmp_path) as repository:
        with pytest.raises(ModelNotFound, match=r"expected a version before .* found: 1"):
            repository.rollback("m")
        add(tmp_path, "m", 2)
        repository.load("m")
        before = repository.runtime.model("m", 1)
        gone = repository.rollback("m")
        assert (gone.version, gone.left) == (1, 2)
        assert served(repository) == [("m", 1)]
        assert before.is_ready
        assert [(one.is_kept, one.reason) for one in repository.index()] == [
            (False, ""),
            (False, "unloaded on demand"),
        ]
        # The next version takes its place, as ever.
        add(tmp_path, "m", 3)
        repository.load("m", 3)
        assert repository.runtime.model("m").version == 3
        repository.runtime.set_labels("m", {"stable": 3})
        repository.runtime.set_route("m", Label("stable"))
        with pytest.raises(InvalidInput, match="got the route 'label': move its label"):
            repository.rollback("m")


def test_changed_files_are_served_under_the_same_number(tmp_path: Path) -> None:
    file = add(tmp_path, "m", 1)
    with ModelRepository(tmp_path) as repository:
        before = repository.runtime.model("m", 1)
        repository.load("m")
        assert before.is_ready  # nothing has changed
        file.write_bytes(file.read_bytes())
        repository.load("m")
        assert not before.is_ready
        assert served(repository) == [("m", 1)]


def test_a_model_whose_folder_is_gone_is_unloaded(tmp_path: Path) -> None:
    file = add(tmp_path, "m", 1)
    with ModelRepository(tmp_path) as repository:
        for path in (file, file.parent, file.parent.parent):
            path.rmdir() if path.is_dir() else path.unlink()
        with pytest.raises(ModelNotFound, match="not in the repository"):
            repository.load("m")
        assert served(repository) == []
        assert repository.index() == []
