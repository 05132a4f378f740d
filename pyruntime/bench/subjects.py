"""What a run measures: models of files or a repository, loaded here or served elsewhere."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyruntime import _core, repository
from pyruntime.bench.grid import Placement
from pyruntime.bench.load.target import Target
from pyruntime.bench.tensors import Array, Inputs
from pyruntime.config import ModelOptions
from pyruntime.errors import InvalidInput, PyRuntimeError, Unavailable
from pyruntime.tensors import DTYPES, TensorSpec

if TYPE_CHECKING:
    from pyruntime.client import Client

__all__ = ["Loaded", "Remote", "Subject", "find_subjects", "load_here", "server_address"]

_CONNECT_S = 5.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to measure. path: of its file; None where only its server has it.

    options: those beside the file, or of its maker.
    """

    name: str
    path: Path | None
    options: ModelOptions


def server_address(target: str) -> str | None:
    """`HOST:PORT` or `unix:PATH` of grpc://...; None in process. Raises InvalidInput."""
    if target == "inproc":
        return None
    address = target.removeprefix("grpc://")
    host, _, port = address.rpartition(":")
    is_unix = address.startswith("unix:") and len(address) > len("unix:")
    if address == target or not (is_unix or (host and port.isdigit() and int(port) < 65536)):
        raise InvalidInput(
            f"target: expected inproc, grpc://HOST:PORT or grpc://unix:PATH, got {target!r}"
        )
    return address


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


class Remote:
    """A server of the Open Inference Protocol. Raises Unavailable if there is none."""

    def __init__(self, address: str, *, threads: int, connections: int, patience_s: float) -> None:
        from pyruntime.client import Client

        self._address = address
        self._options = {
            "threads": threads,
            "connections": connections,
            "patience_s": patience_s,
        }
        self._client: Client = Client(address)
        try:
            self.about = _about(self._client)
        except BaseException:
            self._client.close()
            raise

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        from pyruntime.bench.load.process import ServerProcess

        return ServerProcess.listening_on(self._address) is not None

    def close(self) -> None:
        """Give up the connection."""
        self._client.close()

    def load(self, subject: Subject, arrays: Mapping[str, Array]) -> Loaded:
        """Ask what it takes; where the server does not say, the file or the arrays do."""
        metadata = self._client.metadata(subject.name, timeout_s=_CONNECT_S)
        specs = tuple(map(_to_spec, metadata.inputs))
        if not specs and subject.path is not None:
            with load_here(subject, Placement()) as loaded:
                specs = loaded.specs
        if not specs:
            specs = tuple(_spec_of(name, array) for name, array in arrays.items())
        if not specs:
            raise InvalidInput(
                f"model '{subject.name}': the server does not say what it takes: give the .onnx "
                "file, or --inputs FILE.npz"
            )
        return Loaded(
            specs=specs,
            outputs=tuple(map(_to_spec, metadata.outputs)),
            is_batchable=all(spec.shape[:1] == (-1,) for spec in specs),
            placement=Placement(),
            make_target=lambda inputs: self._make_target(subject.name, specs, inputs),
        )

    def _make_target(self, name: str, specs: Sequence[TensorSpec], inputs: Inputs) -> Target:
        from pyruntime.bench.grpc_steps import request_bytes
        from pyruntime.bench.load.over_grpc import OverGrpc

        request = request_bytes(name, "", specs, inputs)
        return OverGrpc(self._address, name, request, **self._options)  # type: ignore[arg-type]


def _about(client: "Client") -> dict[str, Any]:
    """What the server says of itself; it must at least be there."""
    from pyruntime.frontends import protocol

    request = protocol.message_class("ServerMetadataRequest")()
    try:
        answer = client.call(
            protocol.path("ServerMetadata"),
            request,
            protocol.response_class("ServerMetadata"),
            timeout_s=_CONNECT_S,
        )
    except Unavailable:
        raise
    except PyRuntimeError:
        return {}  # it answers, but not this
    return {"name": answer.name, "version": answer.version, "extensions": list(answer.extensions)}


def _to_spec(tensor: Any) -> TensorSpec:
    return TensorSpec(tensor.name, _DTYPE_OF.get(tensor.datatype, "float32"), tuple(tensor.shape))


def _spec_of(name: str, array: Array) -> TensorSpec:
    dtype = "string" if array.dtype.kind in "OSU" else array.dtype.name
    return TensorSpec(name, dtype, (-1, *array.shape[1:]))


_DTYPE_OF = {_core.data_type_protocol_name(dtype): dtype for dtype in DTYPES}
