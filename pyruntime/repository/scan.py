"""What a repository's folders hold: REPOSITORY/<model>/<version>/model.onnx.

What cannot be served is found with its reason. Hidden files and folders are ignored, and so is
what lies beside the version folders.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from pyruntime.config.files import read_model_config
from pyruntime.config.model import ModelConfig
from pyruntime.errors import InvalidInput

__all__ = ["FoundModel", "FoundVersion", "Stamp", "scan", "scan_model"]

CONFIG_FILE = "model.toml"
TRITON_CONFIG_FILE = "config.pbtxt"

# What can stand in a URL's path, a metric's label and a file's name alike.
_MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,254}")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")

# Of files: name, size, time of the last change, inode. What has changed has another one.
Stamp = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class FoundVersion:
    """A version's folder.

    name: the folder's. path: of the model's file.
    problem: why it cannot be served; None where nothing is known against it.
    """

    model: str
    name: str
    path: Path
    problem: str | None = None
    stamp: Stamp = ()

    @property
    def number(self) -> int | None:
        """The version, None where the name is none."""
        return int(self.name) if _VERSION.fullmatch(self.name) else None


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model's folder. problem: why none of its versions can be served."""

    name: str
    folder: Path
    config: ModelConfig
    versions: tuple[FoundVersion, ...] = ()
    problem: str | None = None
    stamp: Stamp = ()  # of its configuration

    def find(self, number: int) -> FoundVersion | None:
        """Give a version that can be tried."""
        for version in self.versions:
            if version.number == number and version.problem is None:
                return version
        return None


def scan(repository: Path, defaults: ModelConfig | None = None) -> list[FoundModel]:
    """List the models, by name. Raises InvalidInput if `repository` is no folder.

    defaults: of models without a configuration.
    """
    try:
        root = repository.resolve(strict=True)
        folders = _visible(root)
    except NotADirectoryError:
        raise InvalidInput(f"repository {repository}: expected a folder, got a file") from None
    except OSError as error:
        raise InvalidInput(f"repository {repository}: {error.strerror}") from None
    found = (scan_model(root, folder.name, defaults) for folder in folders)
    return [model for model in found if model is not None]


def scan_model(
    root: Path,
    name: str,
    defaults: ModelConfig | None = None,
    *,
    given: ModelConfig | None = None,
) -> FoundModel | None:
    """Look at one model; None if there is no such folder. root: resolved.

    given: in place of the folder's own configuration.
    """
    defaults = ModelConfig() if defaults is None else defaults
    folder = root / name
    if not (folder.is_dir() or folder.is_symlink()):
        return None
    problem = _why_outside(root, folder)
    if problem is None and not _MODEL_NAME.fullmatch(name):
        problem = "model's name: expected letters, digits and _ . + - only"
    if problem is not None:
        return FoundModel(name, folder, defaults, problem=problem)
    if not folder.is_dir():
        return None  # a link to a file
    problem = _why_outside(root, folder / CONFIG_FILE)
    problem = problem or _why_outside(root, folder / TRITON_CONFIG_FILE)
    if problem is not None:
        return FoundModel(name, folder, defaults, problem=problem)
    try:
        stamp = stamp_of(folder, (CONFIG_FILE, TRITON_CONFIG_FILE))
        names = [path for path in _visible(folder) if path.is_dir() or path.is_symlink()]
    except OSError as error:
        return FoundModel(name, folder, defaults, problem=f"model's folder: {error.strerror}")
    config = defaults
    try:
        files = {file for file, *_ in stamp}
        config = _read_config(folder, files, defaults) if given is None else given
    except InvalidInput as error:
        problem = str(error)
    names.sort(key=lambda path: (not path.name.isdigit(), len(path.name), path.name))
    versions = tuple(_scan_version(root, name, path, config.file) for path in names)
    if not versions and problem is None:
        problem = "expected a version folder, found none"
    return FoundModel(name, folder, config, versions, problem, stamp)


def _read_config(folder: Path, files: set[str], defaults: ModelConfig) -> ModelConfig:
    if CONFIG_FILE in files:
        config = read_model_config(folder / CONFIG_FILE)
        if TRITON_CONFIG_FILE in files:
            config = replace(config, ignored=(f"{TRITON_CONFIG_FILE} beside {CONFIG_FILE}",))
        return config
    if TRITON_CONFIG_FILE in files:
        from pyruntime.config.triton import read_triton_config

        return read_triton_config(folder / TRITON_CONFIG_FILE, defaults)
    return defaults


def stamp_of(folder: Path, names: tuple[str, ...] | None = None) -> Stamp:
    """Stamp these files in `folder`, or all that it and its folders hold."""
    if names is None:
        paths = [Path(top, file) for top, _, files in os.walk(folder) for file in files]
    else:
        paths = [folder / name for name in names]
    stamps = []
    for path in paths:
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # just now
        name = str(path.relative_to(folder))
        stamps.append((name, status.st_size, status.st_mtime_ns, status.st_ino))
    return tuple(sorted(stamps))


def _scan_version(root: Path, model: str, folder: Path, file_name: str) -> FoundVersion:
    file = folder / file_name
    problem = _why_outside(root, folder) or _why_outside(root, file)
    if problem is None and not _VERSION.fullmatch(folder.name):
        problem = (
            "version's name: expected a positive whole number of at most 18 digits, without zeros "
            f"in front, got {folder.name!r}"
        )
    if problem is None and (file / file_name).is_file():
        file /= file_name  # a folder of a model and its weights
        problem = _why_outside(root, file)
    if problem is None and not file.is_file():
        problem = f"expected {file_name} in {model}/{folder.name}, found none"
    stamp: Stamp = ()
    try:
        stamp = stamp_of(folder)
    except OSError as error:
        problem = problem or f"{model}/{folder.name}: {error.strerror}"
    return FoundVersion(model, folder.name, file, problem, stamp)


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _why_outside(root: Path, path: Path) -> str | None:
    """Say where `path` leads, if that is not inside the repository or nowhere."""
    try:
        target = path.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before 3.13
        return f"{path.relative_to(root)}: {error}"
    if not target.is_relative_to(root):
        return f"{path.relative_to(root)} leads out of the repository, to {target}"
    return None
