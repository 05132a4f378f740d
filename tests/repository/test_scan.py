"""What is found in a repository's folders, and what is said of the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from repositories import IDENTITY, add

from pyruntime import InvalidInput
from pyruntime.repository import scan

if TYPE_CHECKING:
    from pathlib import Path


def problem_of(repository: Path) -> str:
    """Give the one problem in the repository."""
    found = [one for model in scan(repository) for one in (model, *model.versions)]
    (problem,) = [one.problem for one in found if one.problem]
    return problem


def test_versions_are_found_in_order_and_hidden_files_are_not(tmp_path: Path) -> None:
    for model, version in (("b", "10"), ("b", "9"), ("a", "1"), (".hidden", "1"), ("a", ".git")):
        add(tmp_path, model, version)
    (tmp_path / "README.md").write_text("not a model")
    (tmp_path / "a" / "notes.txt").write_text("not a version")
    found = [(one.model, one.number) for model in scan(tmp_path) for one in model.versions]
    assert found == [("a", 1), ("b", 9), ("b", 10)]


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
    (model,) = scan(tmp_path)
    assert [one.number for one in model.versions if not one.problem] == [1, 2]


def test_links_in_a_circle_and_to_nowhere_are_reported(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "1").symlink_to("2")
    (tmp_path / "m" / "2").symlink_to("1")
    (tmp_path / "m" / "3").symlink_to("nowhere")
    (model,) = scan(tmp_path)
    assert len(model.versions) == 3
    assert all(one.problem for one in model.versions)


def test_repository_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="absent: No such file"):
        scan(tmp_path / "absent")
    with pytest.raises(InvalidInput, match="expected a folder, got a file"):
        scan(IDENTITY)


def test_a_folder_named_as_the_model_holds_it(tmp_path: Path) -> None:
    file = add(tmp_path, "m")
    folder = file.rename(file.with_name("other"))
    (tmp_path / "m" / "1" / "model.onnx").mkdir()
    folder.rename(tmp_path / "m" / "1" / "model.onnx" / "model.onnx")
    (model,) = scan(tmp_path)
    assert model.versions[0].problem is None
    assert model.versions[0].path == tmp_path / "m" / "1" / "model.onnx" / "model.onnx"


def test_a_stamp_is_of_all_that_a_version_holds(tmp_path: Path) -> None:
    add(tmp_path, "m")
    (before,) = scan(tmp_path)
    (tmp_path / "m" / "1" / "weights").mkdir()
    (tmp_path / "m" / "1" / "weights" / "w.bin").write_bytes(b"1")
    (after,) = scan(tmp_path)
    assert before.versions[0].stamp != after.versions[0].stamp
    assert before.stamp == after.stamp == ()
