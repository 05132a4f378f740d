"""Errors of the runtime as gRPC status."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from pyruntime import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger("pyruntime.grpc")

STATUS_OF: dict[type[errors.PyRuntimeError], grpc.StatusCode] = {
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ModelNotFound: grpc.StatusCode.NOT_FOUND,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.Unimplemented: grpc.StatusCode.UNIMPLEMENTED,
    errors.EngineError: grpc.StatusCode.INTERNAL,
}


class CallRefused(errors.PyRuntimeError):
    """A call that ends with a status of its own."""

    def __init__(self, status: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.status = status


# A message travels in a header, and a peer may refuse headers above 8 KiB; each byte may
# take three in percent-encoding.
_MAX_DETAILS_BYTES = 2048


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """Status code and message of what a call raised."""
    if isinstance(error, DecodeError):
        return grpc.StatusCode.INVALID_ARGUMENT, f"request is not a protocol message: {error}"
    if isinstance(error, CallRefused):
        return error.status, shorten(str(error))
    for cls in type(error).__mro__:
        if (code := STATUS_OF.get(cls)) is not None:
            return code, shorten(str(error))
    _log.error("a call failed unexpectedly", exc_info=error)
    return grpc.StatusCode.INTERNAL, shorten(f"{type(error).__name__}: {error}")


def shorten(message: str) -> str:
    """Cut `message` to what fits in a header, and say so."""
    data = message.encode(errors="replace")
    if len(data) <= _MAX_DETAILS_BYTES:
        return data.decode()
    return data[:_MAX_DETAILS_BYTES].decode(errors="ignore") + " [...]"


def abort(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    """End the call with the error's status."""
    code, message = status_of(error)
    context.abort(code, message)


def reject(code: grpc.StatusCode, message: str) -> grpc.RpcMethodHandler[Any, Any]:
    """Build a handler that answers any call so, without reading its request."""

    def answer(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        del requests
        context.abort(code, message)

    # As a stream of requests, so that gRPC does not wait for the first one.
    return grpc.stream_unary_rpc_method_handler(answer)
