"""Models in folders: REPOSITORY/<model>/<version>/model.onnx, options in <model>/model.toml.

A version that cannot be served is reported with its reason, and the others are served. Hidden
files and folders are ignored, and so is what lies beside the version folders.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyruntime.config import read_model_options
from pyruntime.errors import InvalidInput, PyRuntimeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyruntime.config import ModelOptions
    from pyruntime.runtime import Model, Runtime

MODEL_FILE = "model.onnx"
OPTIONS_FILE = "model.toml"

# What can stand in a URL's path, a metric's label and a file's name alike.
_MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,254}")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True)
class FoundVersion:
    """A version folder, or a model folder where that is what is wrong.

    version: the folder's name, empty where the model's folder has none.
    problem: why it cannot be served; None where nothing is known against it.
    """

    model: str
    version: str
    path: Path
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """What became of a found version: either a model, or a problem."""

    found: FoundVersion
    model: Model | None
    seconds: float


def scan(repository: Path) -> list[FoundVersion]:
    """List what the folder holds, by name and version. Raises InvalidInput if it is no folder."""
    try:
        root = repository.resolve(strict=True)
        folders = _visible(root)
    except NotADirectoryError:
        raise InvalidInput(f"repository {repository}: expected a folder, got a file") from None
    except OSError as error:
        raise InvalidInput(f"repository {repository}: {error.strerror}") from None
    found: list[FoundVersion] = []
    for folder in folders:
        if folder.is_dir() or folder.is_symlink():
            found += _scan_model(root, folder)
    return found


def load(
    runtime: Runtime, found: list[FoundVersion], options: ModelOptions | None = None
) -> Iterator[LoadedVersion]:
    """Load each version, and yield what became of it at once.

    options: of the models that have no model.toml.
    """
    for version in found:
        if version.problem is not None:
            yield LoadedVersion(version, None, 0.0)
            continue
        begin = time.perf_counter()
        model: Model | None = None
        try:
            model = runtime.load(
                version.model,
                version.path,
                version=int(version.version),
                options=_options_of(version, options),
            )
        except PyRuntimeError as error:
            version = replace(version, problem=str(error))
        yield LoadedVersion(version, model, time.perf_counter() - begin)


def _options_of(version: FoundVersion, default: ModelOptions | None) -> ModelOptions | None:
    path = version.path.parent.parent / OPTIONS_FILE
    return read_model_options(path) if path.exists() else default


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _scan_model(root: Path, folder: Path) -> list[FoundVersion]:
    problem = _why_outside(root, folder)
    if problem is None and not _MODEL_NAME.fullmatch(folder.name):
        problem = "model's name: expected letters, digits and _ . + - only"
    if problem is not None:
        return [FoundVersion(folder.name, "", folder, problem)]
    if not folder.is_dir():
        return []  # a link to a file
    if problem := _why_outside(root, folder / OPTIONS_FILE):
        return [FoundVersion(folder.name, "", folder, problem)]
    try:
        versions = [path for path in _visible(folder) if path.is_dir() or path.is_symlink()]
    except OSError as error:
        return [FoundVersion(folder.name, "", folder, f"model's folder: {error.strerror}")]
    if not versions:
        return [FoundVersion(folder.name, "", folder, "expected a version folder, found none")]
    versions.sort(key=lambda path: (not path.name.isdigit(), len(path.name), path.name))
    return [_scan_version(root, folder.name, path) for path in versions]


def _scan_version(root: Path, model: str, folder: Path) -> FoundVersion:
    file = folder / MODEL_FILE
    problem = _why_outside(root, folder) or _why_outside(root, file)
    if problem is None and not _VERSION.fullmatch(folder.name):
        problem = f"version's name: expected a positive whole number, got {folder.name!r}"
    if problem is None and not file.is_file():
        problem = f"expected {MODEL_FILE} in {model}/{folder.name}, found none"
    return FoundVersion(model, folder.name, file, problem)


def _why_outside(root: Path, path: Path) -> str | None:
    """Say where `path` leads, if that is not inside the repository or nowhere."""
    try:
        target = path.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before 3.13
        return f"{path.relative_to(root)}: {error}"
    if not target.is_relative_to(root):
        return f"{path.relative_to(root)} leads out of the repository, to {target}"
    return None
