"""ModelInfer and ModelStreamInfer: bytes in, bytes out.

Decoding, scheduling and encoding are the core's; no protocol message is a Python object here,
apart from a stream's error messages.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING

import grpc

from pyruntime import errors
from pyruntime._core import InferCall
from pyruntime.frontends import protocol
from pyruntime.frontends.grpc_status import abort, shorten, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyruntime._core import Registry, SharedMemory
    from pyruntime.runtime import LoadAbsent

_StreamResponse = protocol.message_class("ModelStreamInferResponse")

# Longer deadlines, and gRPC's value for none, count as no deadline: seconds.
_NO_DEADLINE_S = 1e8


def timeout_us(context: grpc.ServicerContext) -> int | None:
    """Time left to a call, None if it has no deadline."""
    remaining = context.time_remaining()
    return int(remaining * 1e6) if remaining < _NO_DEADLINE_S else None


def route_key(context: grpc.ServicerContext, header: str | None) -> str:
    """Value of that header of a call; empty where there is none."""
    if header is None:
        return ""
    for name, value in context.invocation_metadata():
        if name == header:
            return value if isinstance(value, str) else value.decode(errors="replace")
    return ""


def model_infer(
    registry: Registry,
    request: bytes,
    context: grpc.ServicerContext,
    route_key_header: str | None = None,
    bring_in: LoadAbsent | None = None,
    shared_memory: SharedMemory | None = None,
) -> bytes:
    """Answer one request on this thread.

    bring_in: loads a model that waits for its first request. shared_memory: where tensors may lie.
    """
    call = InferCall(registry, shared_memory)
    if not context.add_callback(call.cancel):
        return b""  # the client is gone
    key = route_key(context, route_key_header)
    try:
        try:
            return call.infer(request, timeout_us(context), key)
        except (errors.ModelNotFound, errors.Unavailable):
            left_us = timeout_us(context)
            lease = None
            if bring_in is not None:
                lease = bring_in(*_wanted(call, left_us))
            if lease is None:
                raise
            with lease:
                call = InferCall(registry, shared_memory)
                context.add_callback(call.cancel)
                return call.infer(request, timeout_us(context), key)
    except Exception as error:  # every failure of one request is its own answer
        abort(context, error)


def _wanted(call: InferCall, left_us: int | None) -> tuple[str, float | None, int | None]:
    """What a call that found no model waits for: model, seconds, version."""
    version = call.model_version
    return (
        call.model_name,
        None if left_us is None else left_us / 1e6,
        int(version) if version.isdigit() else None,
    )


class InferStream:
    """One ModelStreamInfer: requests run as they come in, answers go out in their order.

    A request that fails is answered by an error message, and the stream goes on.

    Threads: a reader of its own submits; answers() runs on gRPC's thread.
    """

    def __init__(
        self,
        registry: Registry,
        requests: Iterator[bytes],
        context: grpc.ServicerContext,
        max_in_flight: int,
        route_key_header: str | None = None,
        bring_in: LoadAbsent | None = None,
        shared_memory: SharedMemory | None = None,
    ) -> None:
        self._registry = registry
        self._shared_memory = shared_memory
        self._requests = requests
        self._context = context
        self._max_in_flight = max_in_flight
        self._bring_in = bring_in
        self._route_key = route_key(context, route_key_header)

        self._changed = threading.Condition()
        self._calls: deque[tuple[InferCall, Future[bytes]]] = deque()  # unanswered
        self._is_complete = False  # no further request comes
        self._is_draining = False
        self._is_over = False  # the client is gone, or has all it gets

    def answers(self) -> Iterator[bytes]:
        """Yield responses until the client has sent its last request, or drain()."""
        if not self._context.add_callback(self._cancel):
            return
        reader = threading.Thread(target=self._read, name="pyruntime-stream-reader", daemon=True)
        reader.start()
        while (oldest := self._oldest()) is not None:
            yield self._answer(*oldest)
            with self._changed:
                if self._calls:
                    self._calls.popleft()
                self._changed.notify_all()
        with self._changed:
            is_cut_short = self._is_draining and not self._is_complete
            self._is_over = True
            self._changed.notify_all()
        if is_cut_short:
            self._context.abort(grpc.StatusCode.UNAVAILABLE, "the server is draining")

    def drain(self) -> None:
        """Answer what was taken, and end the stream."""
        with self._changed:
            self._is_draining = True
            self._changed.notify_all()

    def _oldest(self) -> tuple[InferCall, Future[bytes]] | None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._calls or self._is_complete or self._is_draining or self._is_over
            )
            return self._calls[0] if self._calls and not self._is_over else None

    def _answer(self, call: InferCall, future: Future[bytes]) -> bytes:
        try:
            response = future.result()
        except Exception as error:
            code, message = status_of(error)
            name = error.code if isinstance(error, errors.PyRuntimeError) else code.name
            answer = _StreamResponse(error_message=shorten(f"{name}: {message}"))
            answer.infer_response.id = call.id
            answer.infer_response.model_name = call.model_name
            serialized: bytes = answer.SerializeToString()
            return serialized
        return b"".join((_INFER_RESPONSE_TAG, _varint(len(response)), response))

    def _read(self) -> None:
        try:
            for request in self._requests:
                if not self._take(request):
                    return
        except grpc.RpcError:
            pass  # the client is gone; gRPC calls _cancel
        with self._changed:
            self._is_complete = True
            self._changed.notify_all()

    def _take(self, request: bytes) -> bool:
        """Submit `request` once there is room; False when the stream is over."""
        with self._changed:
            self._changed.wait_for(
                lambda: len(self._calls) < self._max_in_flight or self._is_over or self._is_draining
            )
            if self._is_over or self._is_draining:
                return False
        call = InferCall(self._registry, self._shared_memory)
        try:
            future = self._submit(call, request)
        except (errors.ModelNotFound, errors.Unavailable) as absence:
            call, future = self._submit_late(call, request, absence)
        except Exception as error:
            future = Future()
            future.set_exception(error)
        return self._add(call, future)

    def _submit(self, call: InferCall, request: bytes) -> Future[bytes]:
        return call.submit(request, timeout_us(self._context), self._route_key)

    def _submit_late(
        self, call: InferCall, request: bytes, absence: Exception
    ) -> tuple[InferCall, Future[bytes]]:
        """Submit a request whose model it has to wait for; this holds up its own stream alone."""
        left_us = timeout_us(self._context)
        try:
            lease = None
            if self._bring_in is not None:
                lease = self._bring_in(*_wanted(call, left_us))
            if lease is None:
                raise absence
            with lease:
                call = InferCall(self._registry, self._shared_memory)
                return call, self._submit(call, request)
        except Exception as error:
            future: Future[bytes] = Future()
            future.set_exception(error)
            return call, future

    def _add(self, call: InferCall, future: Future[bytes]) -> bool:
        with self._changed:
            if self._is_over:
                call.cancel()
                return False
            self._calls.append((call, future))
            self._changed.notify_all()
        return True

    def _cancel(self) -> None:
        with self._changed:
            self._is_over = True
            calls = list(self._calls)
            self._changed.notify_all()
        for call, _ in calls:
            call.cancel()


# Of ModelStreamInferResponse.infer_response: its number, and "length-delimited".
_INFER_RESPONSE_TAG = bytes(
    [_StreamResponse.DESCRIPTOR.fields_by_name["infer_response"].number << 3 | 2]
)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
