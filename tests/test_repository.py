"""What is found in a repository's folders, and what is said of the rest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pyruntime import InvalidInput, ModelOptions, Runtime
from pyruntime.repository import load, scan

MODEL = Path(__file__).parent / "models" / "identity_f32.onnx"


def add(repository: Path, model: str, version: str = "1") -> Path:
    folder = repository / model / version
    folder.mkdir(parents=True)
    return Path(shutil.copy(MODEL, folder / "model.onnx"))


def problem_of(repository: Path) -> str:
    """Give the one problem in the repository."""
    (found,) = [found for found in scan(repository) if found.problem]
    assert found.problem is not None
    return found.problem


def test_versions_are_found_in_order_and_hidden_files_are_not(tmp_path: Path) -> None:
    for model, version in (("b", "10"), ("b", "9"), ("a", "1"), (".hidden", "1"), ("a", ".git")):
        add(tmp_path, model, version)
    (tmp_path / "README.md").write_text("not a model")
    (tmp_path / "a" / "notes.txt").write_text("not a version")
    found = [(one.model, one.version, one.problem) for one in scan(tmp_path)]
    assert found == [("a", "1", None), ("b", "9", None), ("b", "10", None)]


@pytest.mark.parametrize("version", ["abc", "0", "-1", "01", "1.0", "1" * 20, "\u0661"])
def test_version_that_is_no_number_is_reported(tmp_path: Path, version: str) -> None:
    add(tmp_path, "m", version)
    assert problem_of(tmp_path).startswith("version's name: expected a positive whole number")
    assert version in problem_of(tmp_path)


def test_empty_folders_are_reported(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    assert problem_of(tmp_path) == "expected a version folder, found none"
    (tmp_path / "m" / "1").mkdir()
    assert problem_of(tmp_path) == "expected model.onnx in m/1, found none"


@pytest.mark.parametrize("name", ["a b", "a\nb", "-a", "\u00fc", "a%2f"])
def test_name_that_could_mislead_is_reported(tmp_path: Path, name: str) -> None:
    add(tmp_path, name)
    assert problem_of(tmp_path).startswith("model's name: expected")


@pytest.mark.parametrize("link", ["m", "m/1", "m/1/model.onnx", "m/model.toml"])
def test_link_that_leaves_the_repository_is_reported(tmp_path: Path, link: str) -> None:
    repository = tmp_path / "repository"
    outside = tmp_path / "outside"
    add(outside, "m")
    (outside / "m" / "model.toml").write_text("")
    path = repository / link
    path.parent.mkdir(parents=True)
    path.symlink_to(outside / link)
    if link == "m/model.toml":
        add(repository, "m")
    assert f"{link} leads out of the repository, to {outside / link}" in problem_of(repository)


def test_link_inside_the_repository_is_followed(tmp_path: Path) -> None:
    add(tmp_path, "m", "1")
    (tmp_path / "m" / "2").symlink_to("1")
    assert [one.version for one in scan(tmp_path) if not one.problem] == ["1", "2"]


def test_links_in_a_circle_and_to_nowhere_are_reported(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "1").symlink_to("2")
    (tmp_path / "m" / "2").symlink_to("1")
    (tmp_path / "m" / "3").symlink_to("nowhere")
    assert all(one.problem for one in scan(tmp_path))


def test_repository_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="absent: No such file"):
        scan(tmp_path / "absent")
    with pytest.raises(InvalidInput, match="expected a folder, got a file"):
        scan(MODEL)


def test_what_cannot_be_loaded_is_reported_and_the_others_are_served(tmp_path: Path) -> None:
    add(tmp_path, "good", "1")
    add(tmp_path, "good", "2").write_bytes(b"no model at all")
    add(tmp_path, "good", "3")
    add(tmp_path, "empty").write_bytes(b"")
    (tmp_path / "none").mkdir()
    with Runtime() as runtime:
        loaded = list(load(runtime, scan(tmp_path)))
        served = [(model.name, model.version) for model in runtime.models()]
    assert served == [("good", 1), ("good", 3)]
    problems = {(one.found.model, one.found.version): one.found.problem for one in loaded}
    assert problems["good", "1"] is problems["good", "3"] is None
    assert "good" in (problems["good", "2"] or "")
    assert problems["empty", "1"]
    assert problems["none", ""] == "expected a version folder, found none"


def test_model_toml_takes_the_place_of_the_default_options(tmp_path: Path) -> None:
    add(tmp_path, "own")
    (tmp_path / "own" / "model.toml").write_text("[batching]\nmax_rows = 3\n")
    add(tmp_path, "default")
    add(tmp_path, "wrong")
    (tmp_path / "wrong" / "model.toml").write_text("batchings = 3\n")
    with Runtime() as runtime:
        default = ModelOptions(intra_op_threads=2)
        loaded = {one.found.model: one for one in load(runtime, scan(tmp_path), default)}
        own = runtime.model("own").options
        assert (own.batching.max_rows, own.intra_op_threads) == (3, 1)
        assert runtime.model("default").options == default
    assert "batchings" in (loaded["wrong"].found.problem or "")
    assert "model.toml" in (loaded["wrong"].found.problem or "")
