"""Models that a server of the Open Inference Protocol, version 2, has."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyruntime import _core
from pyruntime.bench.grid import Placement
from pyruntime.bench.load.target import Target
from pyruntime.bench.plan import ClientOptions
from pyruntime.bench.subjects import Loaded, Subject, load_here
from pyruntime.bench.tensors import Array, Inputs
from pyruntime.errors import InvalidInput, PyRuntimeError, Unavailable, Unimplemented
from pyruntime.tensors import DTYPES, TensorSpec

if TYPE_CHECKING:
    from pyruntime.client import Client

__all__ = ["Address", "Remote"]

_CONNECT_S = 5.0
_TARGETS = "inproc, grpc://HOST:PORT, grpcs://HOST:PORT or grpc://unix:PATH"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens. text: HOST:PORT or unix:PATH."""

    text: str
    is_tls: bool = False

    @classmethod
    def parse(cls, target: str) -> "Address":
        """As grpc://HOST:PORT. Raises InvalidInput."""
        scheme, separator, text = target.partition("://")
        host, _, port = text.rpartition(":")
        is_unix = text.startswith("unix:") and len(text) > len("unix:") and scheme == "grpc"
        is_tcp = bool(host) and host != "unix" and port.isdigit() and int(port) < 65536
        if not separator or scheme not in ("grpc", "grpcs") or not (is_unix or is_tcp):
            raise InvalidInput(f"target: expected {_TARGETS}, got {target!r}")
        return cls(text, scheme == "grpcs")


class Remote:
    """One such server. Raises Unavailable if there is none."""

    def __init__(self, target: str, options: ClientOptions) -> None:
        self._address = Address.parse(target)
        self._options = options
        self._client = self._connect()
        try:
            self.about = _about(self._client)
        except Unavailable as error:
            self._client.close()
            # A server with TLS hangs up on who does not greet it.
            is_hung_up = not self._address.is_tls and re.search("closed|reset", str(error))
            hint = f"; where it speaks TLS: grpcs://{self._address.text}" if is_hung_up else ""
            raise Unavailable(f"{error}{hint}") from None
        except BaseException:
            self._client.close()
            raise

    def _connect(self) -> "Client":
        from pyruntime.client import Client, ClientTls

        options, tls = self._options, None
        if self._address.is_tls:
            tls = ClientTls(options.ca, options.certificate, options.key)
        return Client(self._address.text, tls=tls, **self._options.named)

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        from pyruntime.bench.load.process import ServerProcess

        return ServerProcess.listening_on(self._address.text) is not None

    def close(self) -> None:
        """Give up the connection."""
        self._client.close()

    def load(self, subject: Subject, arrays: Mapping[str, Array]) -> Loaded:
        """Ask what it takes; where the server does not say, the file or the arrays do."""
        inputs, outputs = self._metadata(subject.name)
        if not inputs and subject.path is not None:
            with load_here(subject, Placement()) as loaded:
                inputs = loaded.specs
        specs = inputs or tuple(_spec_of(name, array) for name, array in arrays.items())
        if not specs:
            raise InvalidInput(
                f"model '{subject.name}': the server does not say what it takes: give the .onnx "
                "file, or --inputs FILE.npz"
            )
        return Loaded(
            specs=specs,
            outputs=outputs,
            is_batchable=all(spec.shape[:1] == (-1,) for spec in specs),
            placement=Placement(),
            make_target=lambda inputs: self._make_target(subject.name, specs, inputs),
        )

    def _metadata(self, model: str) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """Inputs and outputs, as far as it says."""
        try:
            found = self._client.metadata(model, timeout_s=_CONNECT_S)
        except Unimplemented:
            return (), ()
        return tuple(map(_to_spec, found.inputs)), tuple(map(_to_spec, found.outputs))

    def _make_target(self, name: str, specs: Sequence[TensorSpec], inputs: Inputs) -> Target:
        from pyruntime.bench.request_bytes import request_bytes

        options = self._options
        request = request_bytes(name, "", specs, inputs, is_typed=options.is_typed)
        if self._address.is_tls:
            from pyruntime.bench.load.over_tls import OverTls

            channels = [self._connect() for _ in range(options.connections)]
            return OverTls(self._address.text, name, request, channels, options.patience_s)
        from pyruntime.bench.load.over_grpc import OverGrpc

        return OverGrpc(
            self._address.text,
            name,
            request,
            threads=options.threads,
            connections=options.connections,
            patience_s=options.patience_s,
            **options.named,
        )


def _about(client: "Client") -> dict[str, Any]:
    """What the server says of itself; it must at least be there."""
    try:
        answer = client.server_metadata(timeout_s=_CONNECT_S)
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
