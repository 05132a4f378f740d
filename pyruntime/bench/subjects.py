"""What a run measures: models of files or a repository, which may be loaded here."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyruntime import repository
from pyruntime.bench.grid import Placement
from pyruntime.bench.load.target import Target
from pyruntime.bench.tensors import Inputs
from pyruntime.config import ModelOptions
from pyruntime.errors import InvalidInput
from pyruntime.tensors import TensorSpec

__all__ = ["Loaded", "Subject", "find_subjects", "load_here"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to measure. path: of its file; None where only its server has it.

    options: those beside the file, or of its maker.
    """

    name: str
    path: Path | None
    options: ModelOptions


def find_subjects(
    model: str | os.PathLike[str],
    *,
    options: ModelOptions | None,
    names: Sequence[str],
    is_remote: bool,
) -> list[Subject]:
    """An .onnx file, the latest version of each model of a repository, or a server's model.

    names: of the models that are wanted; of a file: what its server calls it. Raises InvalidInput.
    """
    text = os.fspath(model)
    path = Path(text)
    if path.is_dir():
        return _in_repository(path, options, names)
    if path.is_file():
        if len(names) > 1:
            raise InvalidInput(f"model-name: expected one for the file {text}, got {len(names)}")
        return [Subject(names[0] if names else path.stem, path, options or ModelOptions())]
    if is_remote and path.suffix != ".onnx" and len(path.parts) == 1:
        return [Subject(text, None, ModelOptions())]
    expected = "an .onnx file, a repository's folder or a name on the server"
    if not is_remote:
        expected = "an .onnx file or a repository's folder"
    raise InvalidInput(f"model '{text}': expected {expected}, got nothing there")


def _in_repository(path: Path, options: ModelOptions | None, names: Sequence[str]) -> list[Subject]:
    latest: dict[str, Subject] = {}
    for found in repository.scan(path):
        servable = [one for one in found.versions if one.number is not None and one.problem is None]
        if found.problem is None and servable:
            file = max(servable, key=lambda one: one.number or 0).path
            latest[found.name] = Subject(found.name, file, options or found.config.options)
    if missing := sorted(set(names) - latest.keys()):
        have = ", ".join(sorted(latest)) or "none"
        raise InvalidInput(f"model-name: expected models of {path} ({have}), got {missing[0]!r}")
    if not latest:
        raise InvalidInput(f"repository {path}: expected a model that can be served, found none")
    return [subject for name, subject in sorted(latest.items()) if not names or name in names]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that can be called. placement: as it was loaded; empty where a server did.

    made: of the requests, for its kind of target.
    """

    specs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    is_batchable: bool
    placement: Placement
    make_target: Any

    def target(self, inputs: Inputs) -> Target:
        """What is sent these inputs again and again."""
        made: Target = self.make_target(inputs)
        return made


@contextmanager
def load_here(subject: Subject, placement: Placement) -> Iterator[Loaded]:
    """Load it in this process. Raises what Runtime.load does."""
    from pyruntime.bench.load.inproc import InProcess
    from pyruntime.runtime import Runtime

    options = placement.apply(subject.options)
    with Runtime() as runtime:
        model = runtime.load(subject.name, subject.path, options=options)
        yield Loaded(
            specs=model.inputs,
            outputs=model.outputs,
            is_batchable=model.is_batchable,
            placement=Placement.of(options),
            make_target=lambda inputs: InProcess(model, inputs),
        )
