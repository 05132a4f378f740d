"""A client of the Open Inference Protocol, version 2, over gRPC.

For the command line and for tests: it takes and gives NumPy arrays, and keeps to this package's
own protocol messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from pyruntime.errors import EngineError, InvalidInput, PyRuntimeError, Unavailable
from pyruntime.frontends import protocol
from pyruntime.frontends.grpc_status import STATUS_OF

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

Array = np.ndarray[Any, Any]

# Datatypes of the protocol that NumPy knows. BF16 has no dtype there and comes as FP32.
DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
_DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items()}

# Datatype to the field of InferTensorContents that carries it.
TYPED_FIELDS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}

_MAX_MESSAGE_BYTES = (1 << 31) - 1
_ERROR_OF = {status: error for error, status in STATUS_OF.items()}


@dataclass(frozen=True, slots=True)
class ClientTls:
    """PEM files of a client; without `ca` the system's certificates vouch for the server."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered. datatypes: the protocol's, by output."""

    model: str
    version: str
    outputs: dict[str, Array]
    datatypes: dict[str, str]


class Client:
    """Calls one server. Raises the errors of pyruntime.errors.

    address: `HOST:PORT` or `unix:PATH`.
    token: shown to servers that expect a bearer token.
    service: what the server calls the protocol's service, where it has a name of its own.
    Threads: all calls from any.
    """

    def __init__(
        self,
        address: str,
        *,
        tls: ClientTls | None = None,
        token: str | None = None,
        service: str = protocol.SERVICE,
    ) -> None:
        options = (
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
        )
        if tls is None:
            self._channel = grpc.insecure_channel(address, options)
        else:
            self._channel = grpc.secure_channel(address, _credentials(tls), options)
        self._address = address
        self._service = service
        self._metadata = () if token is None else (("authorization", f"Bearer {token}"),)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give up the connection."""
        self._channel.close()

    def metadata(self, model: str, version: str = "", *, timeout_s: float | None = None) -> Any:
        """Fetch ModelMetadataResponse."""
        return self._call(
            "ModelMetadata",
            timeout_s,
            protocol.message_class("ModelMetadataRequest")(name=model, version=version),
        )

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        *,
        version: str = "",
        outputs: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> Answer:
        """Run one request and wait for it. outputs: those wanted; none: all."""
        request = infer_request(model, inputs, version=version, outputs=outputs)
        response = self._call("ModelInfer", timeout_s, request)
        return Answer(
            model=response.model_name,
            version=response.model_version,
            outputs=_output_arrays(response),
            datatypes={output.name: output.datatype for output in response.outputs},
        )

    def infer_raw(self, request: bytes, *, timeout_s: float | None = None) -> bytes:
        """Run a request that is serialised already, and return the answer as it came."""
        try:
            answer: bytes = self._infer_raw()(request, timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._error("ModelInfer", error) from None
        return answer

    def start_raw(
        self,
        request: bytes,
        on_done: Callable[[PyRuntimeError | None], None],
        *,
        timeout_s: float | None = None,
    ) -> None:
        """Start a request that is serialised already.

        on_done: called once, on a thread of gRPC's, with what it failed with or None.
        """

        def tell(call: grpc.Future[bytes]) -> None:
            error = call.exception()
            if error is None:
                on_done(None)
            elif isinstance(error, grpc.RpcError):
                on_done(self._error("ModelInfer", error))
            else:
                on_done(EngineError(f"ModelInfer: {type(error).__name__}: {error}"))

        call = self._infer_raw().future(request, timeout=timeout_s, metadata=self._metadata)
        call.add_done_callback(tell)

    def _infer_raw(self) -> grpc.UnaryUnaryMultiCallable[bytes, bytes]:
        return self._channel.unary_unary(protocol.path("ModelInfer", self._service))

    def server_metadata(self, *, timeout_s: float | None = None) -> Any:
        """Fetch ServerMetadataResponse."""
        request = protocol.message_class("ServerMetadataRequest")()
        return self._call("ServerMetadata", timeout_s, request)

    def is_ready(self, model: str, *, timeout_s: float | None = None) -> bool:
        """Ask whether a model can be called."""
        request = protocol.message_class("ModelReadyRequest")(name=model)
        return bool(self._call("ModelReady", timeout_s, request).ready)

    def repository_index(self, *, ready_only: bool = False, timeout_s: float | None = None) -> Any:
        """Fetch RepositoryIndexResponse."""
        request = protocol.message_class("RepositoryIndexRequest")(ready=ready_only)
        return self._call("RepositoryIndex", timeout_s, request)

    def load(
        self,
        model: str,
        version: int | None = None,
        *,
        config: str | None = None,
        files: Mapping[str, bytes] | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Load a model's versions as its policy says, or one more version of it.

        config, files: in place of what is in the repository, as in ModelRepository.load.
        """
        request = protocol.message_class("RepositoryModelLoadRequest")(model_name=model)
        if version is not None:
            request.parameters["version"].int64_param = version
        if config is not None:
            request.parameters["config"].string_param = config
        for name, data in (files or {}).items():
            request.parameters[f"file:{name}"].bytes_param = data
        self._call("RepositoryModelLoad", timeout_s, request)

    def unload(
        self, model: str, version: int | None = None, *, timeout_s: float | None = None
    ) -> None:
        """Unload a version of a model; None: all of them."""
        request = protocol.message_class("RepositoryModelUnloadRequest")(model_name=model)
        if version is not None:
            request.parameters["version"].int64_param = version
        self._call("RepositoryModelUnload", timeout_s, request)

    def statistics(
        self, model: str = "", version: str = "", *, timeout_s: float | None = None
    ) -> Any:
        """Fetch ModelStatisticsResponse; of all models, all versions, or one."""
        request = protocol.message_class("ModelStatisticsRequest")(name=model, version=version)
        return self._call("ModelStatistics", timeout_s, request)

    def call(
        self, path: str, request: Any, response_class: type[Any], *, timeout_s: float | None = None
    ) -> Any:
        """Make a unary call of any service. path: its name on the wire."""
        call = self._channel.unary_unary(
            path,
            request_serializer=type(request).SerializeToString,
            response_deserializer=response_class.FromString,
        )
        try:
            return call(request, timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._error(path.rpartition("/")[2], error) from None

    def _call(self, name: str, timeout_s: float | None, request: Any) -> Any:
        return self.call(
            protocol.path(name, self._service),
            request,
            protocol.response_class(name),
            timeout_s=timeout_s,
        )

    def _error(self, name: str, error: grpc.RpcError) -> PyRuntimeError:
        status, details = error.code(), error.details() or ""
        cls = _ERROR_OF.get(status, EngineError)
        if cls is Unavailable and "failed to connect" in details:
            return Unavailable(f"{self._address}: {details.rpartition('; last error: ')[2]}")
        return cls(f"{name}: {status.name}: {details}")


def infer_request(
    model: str, inputs: Mapping[str, Array], *, version: str = "", outputs: Sequence[str] = ()
) -> Any:
    """Build ModelInferRequest with raw contents."""
    request = protocol.message_class("ModelInferRequest")(model_name=model, model_version=version)
    for name, array in inputs.items():
        datatype = datatype_of(array, name)
        request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        request.raw_input_contents.append(_raw(array, datatype))
    for name in outputs:
        request.outputs.add(name=name)
    return request


def datatype_of(array: Array, name: str) -> str:
    """Name of an array's datatype in the protocol. Raises InvalidInput."""
    if array.dtype.kind in "SUO":
        return "BYTES"
    datatype = _DATATYPES.get(array.dtype.newbyteorder("<"))
    if datatype is None:
        raise InvalidInput(f"input {name!r}: the protocol has no datatype for {array.dtype}")
    return datatype


def _raw(array: Array, datatype: str) -> bytes:
    if datatype != "BYTES":
        return array.astype(DTYPES[datatype], copy=False).tobytes()
    parts = bytearray()
    for element in array.flat:
        data = element if isinstance(element, bytes) else str(element).encode()
        parts += len(data).to_bytes(4, "little") + data
    return bytes(parts)


def _output_arrays(response: Any) -> dict[str, Array]:
    arrays = {}
    raws = list(response.raw_output_contents)
    for index, output in enumerate(response.outputs):
        shape = tuple(output.shape)
        if raws:
            array = _from_raw(raws[index], output.datatype)
        else:
            values = getattr(output.contents, TYPED_FIELDS[output.datatype])
            array = _array(list(values), output.datatype)
        arrays[output.name] = array.reshape(shape)
    return arrays


def _from_raw(raw: bytes, datatype: str) -> Array:
    if datatype == "BF16":
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
    if datatype != "BYTES":
        return np.frombuffer(raw, DTYPES[datatype])
    elements, at = [], 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "little")
        elements.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    return _array(elements, datatype)


def _array(values: list[Any], datatype: str) -> Array:
    array = np.empty(len(values), DTYPES[datatype])
    array[:] = values
    return array


def _credentials(tls: ClientTls) -> grpc.ChannelCredentials:
    def read(path: Path | None) -> bytes | None:
        try:
            return path.read_bytes() if path else None
        except OSError as error:
            raise InvalidInput(f"TLS file {path}: {error.strerror}") from None

    return grpc.ssl_channel_credentials(read(tls.ca), read(tls.key), read(tls.certificate))
